"""Find the settings file, read it, overlay the environment; every error names file, line, reason and remedy.

Order of strength: keyword overrides (tests, demo), environment (`PREREAD_LISTENER__PORT=11113`), the YAML
file, the defaults. The file is `--config`, else `PREREAD_CONFIG`, else `./preread.yaml`, else
`/etc/preread/preread.yaml`; without any the defaults stand.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from config.errors import PrereadError
from config.settings import Branch, Settings

ENVIRONMENT_PREFIX = "PREREAD_"
STANDARD_FILES = (Path("preread.yaml"), Path("/etc/preread/preread.yaml"))

Place = tuple[str | int, ...]


class SettingsError(PrereadError):
    """The settings cannot be used; `problems` lists every reason found."""

    def __init__(self, problems: Sequence["Problem"]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the settings."""

    where: str  # "config.yaml line 12" or "environment PREREAD_LISTENER__PORT"
    setting: str  # "peers[1].ae_title", empty when the file itself cannot be read
    reason: str  # what is wrong and the remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.setting + ': ' if self.setting else ''}{self.reason}"


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
        tree, lines = _read(file)
    try:
        environment = EnvSettingsSource(_Environment)()
        return Settings.model_validate(_merged(_merged(tree, environment), overrides or {}))
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


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(old, value)
        else:
            merged[name] = value
    return merged


def _read(file: Path) -> tuple[dict[str, Any], dict[Place, int]]:
    lines: dict[Place, int] = {}
    problems: list[Problem] = []
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except OSError as error:
        raise SettingsError(
            [Problem(str(file), "", f"cannot be read: {error.strerror}. Correct its rights.")]
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            [Problem(str(file), "", f"is not UTF-8 at byte {error.start}. Save it as UTF-8.")]
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file} line {mark.line + 1}" if mark else str(file)
        reason = f"not valid YAML: {getattr(error, 'problem', error)}. Correct the indentation or quoting."
        raise SettingsError([Problem(where, "", reason)]) from None
    if root is None:
        return {}, {}
    _walk(root, (), lines, problems, file)
    if not isinstance(tree, dict):
        problems.append(Problem(f"{file} line 1", "", "the file is not a mapping. Begin with `node:`."))
    if problems:
        raise SettingsError(problems)
    return tree, lines


def _walk(
    node: yaml.Node, place: Place, lines: dict[Place, int], problems: list[Problem], file: Path
) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                reason = f"stands twice, first on line {seen[key.value]}. Remove one."
                problems.append(Problem(f"{file} line {line}", _spelled((*place, key.value)), reason))
            seen[key.value] = line
            lines[(*place, key.value)] = line
            _walk(value, (*place, key.value), lines, problems, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*place, index), lines, problems, file)


def _spelled(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _problem(detail: ErrorDetails, file: Path | None, lines: Mapping[Place, int]) -> Problem:
    place: Place = tuple(detail["loc"])
    variable = ENVIRONMENT_PREFIX + "__".join(str(part).upper() for part in place)
    if variable in os.environ:
        where = f"environment {variable}"
    elif file is not None:
        known = next((place[:n] for n in range(len(place), -1, -1) if place[:n] in lines), ())
        where = f"{file} line {lines.get(known, 1)}"
    else:
        where = "settings"
    return Problem(where, _spelled(place), _reason(detail, place))


def _reason(detail: ErrorDetails, place: Place) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        names = list(_model_at(place[:-1]).model_fields)
        near = difflib.get_close_matches(str(place[-1]), names, n=1)
        known = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(names)}."
        return f"there is no such setting. {known}"
    if detail["type"] == "missing":
        return "is required. Add it."
    if detail["type"] == "value_error":
        return message
    return f"{message[0].lower()}{message[1:]}, found {detail['input']!r}. Correct the value."


def _model_at(place: Place) -> type[BaseModel]:
    model: type[BaseModel] = Settings
    for part in place:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        for candidate in (annotation, *get_args(annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
                break
    return model
