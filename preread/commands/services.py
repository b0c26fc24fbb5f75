"""`preread serve`, `listener`, `worker`, `web`: the node whole, or one service of it."""

import os
import socket
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from preread.commands.options import Config, settings_and_logs
from preread.readiness import announce, end_with_supervisor, notify


def serve(
    config: Config = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Workers to run.")] = 1,
) -> None:
    """Run listener, worker and page, each as a process, started again when one crashes."""
    from config.loading import settings_file
    from db.engine import Database
    from preread.serve import Supervisor, prepare_state, preread_command, services_of, timeline_note

    settings = settings_and_logs(config)
    end_with_supervisor()
    prepare_state(settings)
    database = Database.open(settings.database_url)

    def on_ready(ports: Mapping[str, int]) -> None:
        announce(ports)
        sys.stderr.write(f"preread: ready; the page is at http://{settings.web.host}:{ports['web']}/\n")

    # Children get the file that was found here: they must not depend on the folder they start in.
    file = settings_file(config)
    supervisor = Supervisor(
        services_of(file.resolve() if file else None, workers=workers),
        command=preread_command(),
        note=timeline_note(database),
        on_ready=on_ready,
    )
    code = supervisor.run()
    notify("STOPPING=1")
    database.close()
    raise typer.Exit(code)


def listener(config: Config = None) -> None:
    """Run the DICOM listener alone."""
    from listener.service import run_listener
    from preread.serve import prepare_state

    settings = settings_and_logs(config)
    end_with_supervisor()
    prepare_state(settings)
    raise typer.Exit(run_listener(settings, ready=lambda port: announce({"listener": port})))


def worker(
    config: Config = None,
    name: Annotated[
        str | None, typer.Option(help="Name shown on the page; host and process id without it.")
    ] = None,
) -> None:
    """Run one worker alone: it claims jobs, reads studies and delivers results."""
    from pipeline.worker import run_worker
    from preread.serve import prepare_state

    settings = settings_and_logs(config)
    end_with_supervisor()
    prepare_state(settings)
    announce({})
    raise typer.Exit(run_worker(settings, name=name or f"{socket.gethostname()}-{os.getpid()}"))


def web(config: Config = None) -> None:
    """Run the page alone."""
    from preread.serve import prepare_state
    from preread.web.app import run_web

    settings = settings_and_logs(config)
    end_with_supervisor()
    prepare_state(settings)
    raise typer.Exit(run_web(settings, ready=lambda port: announce({"web": port})))
