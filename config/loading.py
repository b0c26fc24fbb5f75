"""Find the settings file, read it, overlay the environment; every error names file, line, reason and remedy.

Order of strength: keyword overrides (tests, demo), environment (`PREREAD_LISTENER__PORT=11113`), the YAML
file, the defaults. The file is `--config`, else `PREREAD_CONFIG`, else `./preread.yaml`, else
`/etc/preread/preread.yaml`; without any the defaults stand.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from config.settings import Branch, Settings
from config.yaml_file import FileProblems, Place, Problem, line_of, merged, read_tree, reason_of, spelled

ENVIRONMENT_PREFIX = "PREREAD_"
STANDARD_FILES = (Path("preread.yaml"), Path("/etc/preread/preread.yaml"))


class SettingsError(FileProblems):
    """The settings cannot be used; `problems` lists every reason found."""


class _Environment(BaseSettings, Settings):
    """The shape that pydantic-settings reads environment variables by; never handed out."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )


def settings_file(path: Path | None = None) -> Path | None:
    """The file that settings are read from, or None when there is none.

    Raises
    ------
    SettingsError
        `path`, or the file PREREAD_CONFIG names, does not exist.
    """
    named = path or (Path(os.environ["PREREAD_CONFIG"]) if os.environ.get("PREREAD_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            remedy = "there is no such file. Make one with `preread config init`."
            raise SettingsError([Problem(str(named), "", remedy)])
        return named
    return next((candidate for candidate in STANDARD_FILES if candidate.is_file()), None)


def load_settings(path: Path | None = None, *, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this node.

    Parameters
    ----------
    path : the YAML file; None looks in the standard places
    overrides : a nested mapping that wins over the file, as a test or the demo needs

    Raises
    ------
    SettingsError
        With every problem found: file and line, setting, reason, remedy.
    """
    file = settings_file(path)
    tree: dict[str, Any] = {}
    lines: dict[Place, int] = {}
    if file is not None:
        try:
            tree, lines = read_tree(file, first_words="node:")
        except FileProblems as error:
            raise SettingsError(error.problems) from None
    try:
        environment = EnvSettingsSource(_Environment)()
        return Settings.model_validate(merged(merged(tree, environment), overrides or {}))
    except ValidationError as error:
        raise SettingsError([_problem(detail, file, lines) for detail in error.errors()]) from None


def check(path: Path | None = None) -> list[Problem]:
    """Every problem of the settings file at `path`; empty when it can be used."""
    try:
        load_settings(path)
    except SettingsError as error:
        return list(error.problems)
    return []


def render_default() -> str:
    """A commented YAML file with every setting at its default, ready to be edited."""
    head = (
        "# Settings of preread. Every line shows a default; remove what you do not change.\n"
        "# Check the file with `preread config check`. Any value can also come from the environment,\n"
        "# for example PREREAD_LISTENER__PORT=11113.\n"
    )
    return head + "\n".join(_rendered(Settings, indent=0)) + "\n"


EXAMPLE_PEER = """\
# - name: pacs1                 # one entry for each application entity we talk to
#   ae_title: PACS1
#   host: 10.1.2.3
#   port: 104
#   addresses: [10.1.2.0/24]    # it may call from here; without it: only from its host
"""


def _rendered(model: type[BaseModel], indent: int) -> list[str]:
    pad = "  " * indent
    lines: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Branch):
            lines += ["", f"{pad}# {(field.annotation.__doc__ or '').splitlines()[0]}", f"{pad}{name}:"]
            lines += _rendered(field.annotation, indent + 1)
            continue
        lines.append(f"{pad}# {field.description}")
        value = field.get_default(call_default_factory=True)
        value = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        lines.append(pad + yaml.safe_dump({name: value}, default_flow_style=True, width=200).strip()[1:-1])
        if name == "peers":
            lines += [pad + line for line in EXAMPLE_PEER.splitlines()]
    return lines


def _problem(detail: ErrorDetails, file: Path | None, lines: Mapping[Place, int]) -> Problem:
    place: Place = tuple(detail["loc"])
    variable = ENVIRONMENT_PREFIX + "__".join(str(part).upper() for part in place)
    if variable in os.environ:
        where = f"environment {variable}"
    elif file is not None:
        where = f"{file} line {line_of(place, lines)}"
    else:
        where = "settings"
    return Problem(where, spelled(place), reason_of(detail, place, Settings))
