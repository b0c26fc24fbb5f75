"""A node for the demo: the real services, as `preread serve` runs them, on a state folder of their own."""

import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

from config.errors import PrereadError
from config.loading import ENVIRONMENT_PREFIX
from config.settings import Settings
from db.engine import Database
from db.workers import list_workers
from preread.demo.sender import Address
from preread.readiness import READY_DESCRIPTOR, SUPERVISOR_PID
from preread.serve import child_environment, preread_command

START_SECONDS = 300.0  # seconds on a quiet machine; importing torch from a cold, busy disk takes minutes
STOP_SECONDS = 70.0
LOOK_SECONDS = 0.2
LOADING = "loading models"  # the worker's stage until then
# A demo must never write to the database or the ports of a node that is configured in the environment.
KEPT_VARIABLES = ("WORKER__", "PACKAGES__", "LOG__", "KILL_POINT")


class NodeFailed(PrereadError):
    """The services did not start, or ended."""


class DemoNode:
    """The services of one demo, as a context manager: started on entry, stopped on exit.

    Parameters
    ----------
    tree : settings, as in the YAML file; state folder and ports are ours
    folder : existing and empty, for settings, log and state; the caller removes it after the exit
    """

    def __init__(self, tree: dict[str, Any], folder: Path) -> None:
        listener_port, page_port = free_ports(2)
        self._file = folder / "preread.yaml"
        self._log = folder / "serve.log"
        self._tree = {
            **tree,
            "state_folder": str(folder / "state"),
            "listener": {**tree.get("listener", {}), "host": "127.0.0.1", "port": listener_port},
            "web": {"host": "127.0.0.1", "port": page_port, "upload": True},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}

    def __enter__(self) -> "DemoNode":
        self._file.write_text(yaml.safe_dump(self._tree), encoding="utf-8")
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        with _held_back():
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    @property
    def settings(self) -> Settings:
        """Settings of the services, but for what the environment says of worker, packages and log."""
        return Settings.model_validate(self._tree)

    @property
    def page_url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._ports['web']}/"

    @property
    def config_file(self) -> Path:
        """Settings file of the services, for other commands."""
        return self._file

    def address(self) -> Address:
        """Where studies are sent to."""
        return Address(self.settings.node.ae_title, "127.0.0.1", self._ports["listener"])

    def open_database(self) -> Database:
        """The services' database, for reading."""
        return Database.open(self.settings.database_url)

    def check_alive(self) -> None:
        """Return when the services run.

        Raises
        ------
        NodeFailed
            They ended; with the last lines of their log.
        """
        if self._process is not None and self._process.poll() is not None:
            raise self._failed(f"the services ended with exit code {self._process.returncode}")

    def wait_for_models(self) -> None:
        """Return when a worker has loaded its models; what is timed afterwards is the reading alone.

        Raises
        ------
        NodeFailed
            The services ended, or no worker became ready in time.
        """
        until = time.monotonic() + START_SECONDS
        with closing(self.open_database()) as database:
            while not any(worker.stage != LOADING for worker in list_workers(database)):
                self.check_alive()
                if time.monotonic() > until:
                    raise self._failed(f"no worker was ready within {START_SECONDS:.0f} s")
                time.sleep(LOOK_SECONDS)

    def _start(self) -> None:
        read_end, write_end = os.pipe()
        environment = _node_environment()
        environment[READY_DESCRIPTOR] = str(write_end)
        try:
            with self._log.open("wb") as log, _held_back():
                self._process = subprocess.Popen(
                    [*preread_command(), "serve", "--config", str(self._file)],
                    env=environment,
                    pass_fds=(write_end,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,  # Ctrl-C is for the demo, which stops the services in order
                )
        finally:
            os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe, selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            line = pipe.readline() if selector.select(START_SECONDS) else b""
        if not line:
            raise self._failed(f"the services were not ready within {START_SECONDS:.0f} s")
        self._ports = json.loads(line)

    def _failed(self, what: str) -> NodeFailed:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        return NodeFailed("\n".join([what, *(f"    {line}" for line in lines)]), where="preread serve")


def free_ports(count: int) -> list[int]:
    """TCP ports of loopback that nobody uses now, all different.

    They are named in the settings, not left to be picked (0), so that page, doctor and restarts know them.
    """
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in held]


@contextmanager
def _held_back() -> Iterator[None]:
    """Signals that come meanwhile are handled afterwards: no process is started and then forgotten."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, lambda came, _: caught.append(came)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for came in caught:
            signal.raise_signal(came)


def _node_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in child_environment().items()
        if not name.startswith(ENVIRONMENT_PREFIX)
        or name.removeprefix(ENVIRONMENT_PREFIX).startswith(KEPT_VARIABLES)
        or name == SUPERVISOR_PID
    }
