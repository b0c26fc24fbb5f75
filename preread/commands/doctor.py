"""`preread doctor`: is this node well, and what to do where it is not."""

from dataclasses import asdict
from typing import Annotated

import typer

from preread.commands.options import EXIT_FAILED, Config, Json, print_json, settings_and_logs


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the models, which take seconds.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check peers (C-ECHO), ports, disk, database, models and device; each failure with its remedy."""
    from preread.doctor import check_all

    settings = settings_and_logs(config)
    results = []
    for result in check_all(settings, deep=not quick):
        results.append(result)
        if not as_json:
            typer.echo(f"{'ok  ' if result.ok else 'FAIL'}  {result.name}: {result.detail}")
            if result.remedy:
                typer.echo(f"      {result.remedy}")
    if as_json:
        print_json([asdict(result) for result in results])
    if not all(result.ok for result in results):
        raise typer.Exit(EXIT_FAILED)
