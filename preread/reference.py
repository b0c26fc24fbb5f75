"""Reference pages written from the code: settings, commands, refusals, conformance.

`python -m preread.reference docs` writes them; a test renders them again and compares, so a page can never
describe what the code no longer does.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import typer
import typer.main
from pydantic import BaseModel
from typer.core import TyperArgument, TyperGroup, TyperOption

from config.settings import Branch, PeerSettings, Settings
from preread.packages_page import packages_page

HEAD = "<!-- written by scripts/docs from the code; do not edit -->\n\n"


def settings_page() -> str:
    """Every setting with its type, default and reason."""
    text = HEAD + (
        "# Settings\n\n"
        "One YAML file: `--config FILE`, else `PREREAD_CONFIG`, else `./preread.yaml`, else\n"
        "`/etc/preread/preread.yaml`. `preread config init` writes one with every default and its reason,\n"
        "`preread config check` names file, line, reason and remedy of each error. Any value can come from\n"
        "the environment, levels joined by two underscores: `PREREAD_LISTENER__PORT=11113`. Units are in\n"
        "the names.\n\n"
    )
    top = [name for name, field in Settings.model_fields.items() if not _is_branch(field.annotation)]
    text += "## Top level\n\n" + _table(Settings, "", only=top)
    text += "\n## peers[]\n\n" + (PeerSettings.__doc__ or "") + "\n\n" + _table(PeerSettings, "peers[].")
    for name, field in Settings.model_fields.items():
        if _is_branch(field.annotation):
            branch = field.annotation
            assert isinstance(branch, type)
            assert issubclass(branch, BaseModel)
            text += f"\n## {name}\n\n{branch.__doc__}\n\n" + _table(branch, f"{name}.")
    return text


def _is_branch(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Branch)


def _table(model: type[BaseModel], prefix: str, only: list[str] | None = None) -> str:
    rows = ["| setting | type | default | what it does |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if only is not None and name not in only:
            continue
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        rows.append(f"| `{prefix}{name}` | {_kind(field.annotation)} | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _shown(value: object) -> str:
    if value is None or value == () or value == {}:
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(annotation: object) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
            annotation.__name__, "path" if issubclass(annotation, Path) else "list of blocks"
        )
    parts = [part for part in get_args(annotation) if part is not type(None) and part is not Ellipsis]
    if all(isinstance(part, str) for part in parts):
        return ", ".join(str(part) for part in parts)
    name = getattr(annotation, "__name__", "")
    if name == "tuple":
        return "list of " + ("blocks" if _is_branch(parts[0]) else _kind(parts[0]) + "s")
    if name == "dict":
        return "mapping"
    return _kind(parts[0])


def commands_page() -> str:
    """Every command with its options, from the command line's own definitions."""
    from preread.cli import app

    text = HEAD + (
        "# Commands\n\n"
        "Exit status: 0 it worked, 1 it failed, 2 used wrongly. `--json` prints for machines on standard\n"
        "output; progress and messages go to standard error.\n"
    )
    root = typer.main.get_command(app)
    for name, command, context in _walk("preread", root, typer.Context(root, info_name="preread")):
        usage = " ".join(command.collect_usage_pieces(context))
        text += f"\n## `{name}`\n\n{(command.help or '').strip()}\n\n    {name} {usage}\n"
        rows = [
            f"- `{', '.join((*parameter.opts, *parameter.secondary_opts))}`: {parameter.help}"
            for parameter in command.params
            if isinstance(parameter, TyperArgument | TyperOption) and parameter.help
        ]
        if rows:
            text += "\n" + "\n".join(rows) + "\n"
    return text


def _walk(name: str, command: Any, context: typer.Context) -> Iterator[tuple[str, Any, typer.Context]]:
    yield name, command, context
    if isinstance(command, TyperGroup):
        for word in command.list_commands(context):
            child = command.get_command(context, word)
            if child is not None and not child.hidden:
                yield from _walk(
                    f"{name} {word}", child, typer.Context(child, info_name=word, parent=context)
                )


def refusals_page() -> str:
    """Every status and every coded reason of *not analysed*, each with its remedy."""
    from listener.statuses import ABORTS, FAILURES, HTTP_STATUSES, REJECTIONS, STATUSES, Answer
    from pipeline.reading.refusals import REASONS

    def table(head: str, answers: Iterable[tuple[str, Answer]]) -> str:
        rows = [f"| {head} | when | remedy |", "| --- | --- | --- |"]
        rows += [f"| {code} | {answer.when} | {answer.remedy} |" for code, answer in answers]
        return "\n".join(rows) + "\n"

    statuses = ["| status | answer to | when | remedy |", "| --- | --- | --- | --- |"]
    statuses += [
        f"| `0x{status:04X}` | {', '.join(answer.services)} | {answer.when} | {answer.remedy} |"
        for status, answer in sorted(STATUSES.items())
    ]
    rejections = (
        (f"`{result}, {source}, {reason}`", answer) for (result, source, reason), answer in REJECTIONS.items()
    )
    reasons = ["| code | when | what it says | remedy |", "| --- | --- | --- | --- |"]
    reasons += [
        f"| `{code}` | {reason.meaning} | {reason.sentence} | {reason.remedy} |"
        for code, reason in sorted(REASONS.items())
    ]
    parts = (
        "# What is refused, and what to do\n",
        "What was refused is on the page *Node*, with who, why and what to do. Here is every answer a\n"
        "sender can get. What is refused leaves nothing behind; a presentation context that is not accepted\n"
        "is named there, too ([conformance](conformance.md) lists those that are).\n",
        "## Status of an instance, notice or request\n",
        "\n".join(statuses) + "\n",
        "## Failure reason in a report of storage commitment\n",
        table("reason", ((f"`0x{reason:04X}`", answer) for reason, answer in FAILURES.items())),
        "## When an association is rejected\n",
        table("result, source, reason", rejections),
        "## When an association is aborted\n",
        "By the service provider (source 2), after the peer broke the protocol or a bound; the log of the\n"
        "listener says which.\n",
        table("reason", ((f"`{reason}`", answer) for reason, answer in ABORTS.items())),
        "## HTTP status of STOW-RS\n",
        table("status", ((f"`{status}`", answer) for status, answer in HTTP_STATUSES.items())),
        "## Why a study is not analysed\n",
        "Each reason is coded, kept on the job and shown on the page, in `--json` and, by setting, in a\n"
        "small structured report. Words in braces are filled in. A package adds codes of its own for\n"
        "what it is not made for; they stand in its `model.json`.\n",
        "\n".join(reasons) + "\n",
    )
    return HEAD + "\n".join(parts)


def conformance_page() -> str:
    """The conformance statement of this node."""
    from preread import conformance

    return HEAD + conformance.conformance_page()


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "refusals.md": refusals_page,
    "conformance.md": conformance_page,
    "packages.md": lambda: packages_page(HEAD),
}


def main(folder: Path) -> None:
    """Write every page below `folder`."""
    for name, render in PAGES.items():
        (folder / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
