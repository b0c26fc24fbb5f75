"""Options that many commands share, and how each turns into settings and printed lines."""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from config.loading import load_settings
from config.settings import Settings

if TYPE_CHECKING:
    from models.evaluation.evaluate import Figure
    from models.manifest import Evaluation

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="PREREAD_CONFIG", help="Settings file; else ./preread.yaml or /etc."),
]
DataFolder = Annotated[
    Path, typer.Option("--data", help="Folder of labelled data that holds a folder for each data set.")
]
FIGURE_COLUMNS = ("figure", "value", "95 % interval", "cases")
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine on standard output.")]


def settings_and_logs(config: Path | None) -> Settings:
    """Settings of the node, with logging set up as they say.

    Raises
    ------
    config.loading.SettingsError
        The file or the environment cannot be used.
    """
    from config.logs import configure

    settings = load_settings(config)
    configure(level=settings.log.level, form=settings.log.form)
    return settings


def let_libraries_be_quiet() -> None:
    """For commands that name every file themselves: the DICOM libraries say the same again in other words."""
    for name in ("pydicom", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def print_json(value: Any) -> None:
    """One JSON document on standard output; times as ISO 8601, other objects as text."""
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False, indent=2) + "\n")


def print_json_line(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of standard output, flushed so that a reader may follow."""
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """A table on standard output; `empty` is what to say, and do next, when there are no rows.

    Numbers stand right. The table is as wide as it needs when the output is not a terminal, so that a line
    can be searched for.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=240)
    if not rows:
        console.print(empty, markup=False, highlight=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        is_number = all(isinstance(row[number], int | float) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(shown(value) for value in row))
    console.print(table, highlight=False)


def figure_row(figure: "Evaluation | Figure") -> tuple[str, str, str, str]:
    """A figure of a model under FIGURE_COLUMNS."""
    low, high = figure.ci95
    return figure.metric, f"{figure.value:.3f}", f"{low:.3f} to {high:.3f}", f"{figure.n} {figure.unit}"


def shown(value: Any) -> str:
    """A cell as text: what a peer sent is never formatting, nor moves the cursor."""
    from rich.markup import escape

    from preread.web.words import plain

    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.1f}"
    if hasattr(value, "astimezone"):
        return str(value.astimezone().strftime("%Y-%m-%d %H:%M:%S"))
    return escape(plain(value))


def fail(message: str) -> typer.Exit:
    """Say on standard error why the command failed; raise the result."""
    sys.stderr.write(f"preread: {message}\n")
    return typer.Exit(EXIT_FAILED)


def wrong_use(message: str) -> typer.Exit:
    """Say on standard error how the command was used wrongly; raise the result."""
    sys.stderr.write(f"preread: {message}\n")
    return typer.Exit(EXIT_USAGE)


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
