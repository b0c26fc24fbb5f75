"""The supervisor: listener, workers and page as child processes, started in order and kept alive.

A service that ends before it was ever ready fails the start of the node. One that ends later is started again
after a wait that doubles, and the timeline says so. SIGTERM and SIGINT stop all in order, listener first, so
that nothing is accepted that no one would read.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from config.errors import PrereadError
from config.logs import logger
from config.settings import Settings
from db.engine import Database
from db.timeline import note
from preread.owned import house
from preread.readiness import READY_DESCRIPTOR, SUPERVISOR_PID

BACK_OFF_FIRST_SECONDS = 1.0
BACK_OFF_SECONDS_MAX = 60.0
HEALTHY_SECONDS = 120.0  # a service that lived so long starts its back-off anew
READY_LINE_BYTES_MAX = 65536

log = logger("serve")


@dataclass(frozen=True)
class Service:
    """One child process: how it is started and how long it may take to stop."""

    name: str
    arguments: tuple[str, ...]  # after `preread`
    stop_seconds: float
    port_variable: str | None = None  # pins a port that was picked at the first start (setting 0)


def back_off_seconds(failures: int) -> float:
    """Wait before start number `failures` + 1 of a service that ended `failures` times in a row."""
    return min(BACK_OFF_FIRST_SECONDS * 2.0 ** (min(failures, 32) - 1), BACK_OFF_SECONDS_MAX)


def ending(code: int) -> str:
    """How a process ended, in words, from the return code of `subprocess`."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


@dataclass
class _Child:
    service: Service
    process: "subprocess.Popen[bytes] | None" = None
    pipe: int | None = None  # read end of the ready pipe, None once it has spoken or closed
    line: bytes = b""
    ports: dict[str, int] = field(default_factory=dict)
    was_ready: bool = False
    failures: int = 0
    started_at: float = 0.0  # monotonic
    restart_at: float | None = None  # monotonic


class Supervisor:
    """Runs `services` until it is told to stop; one per process, in the main thread.

    Parameters
    ----------
    services : in the order of starting and of stopping
    command : what starts `preread`, before the arguments of a service
    note : writes one sentence to the timeline
    on_ready : called once, with the port of each service that has one
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        command: Sequence[str],
        note: Callable[[str], None],
        on_ready: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._children = [_Child(service) for service in services]
        self._command = tuple(command)
        self._note = note
        self._on_ready = on_ready
        self._selector = selectors.DefaultSelector()
        self._stop_asked = False
        self._announced = False

    def run(self) -> int:
        """Start all, keep all alive, stop all. Returns the exit code: 0 after a stop that was asked for."""
        with self._signals():
            try:
                for child in self._children:
                    self._start(child)
                failed = self._watch()
            finally:
                self._stop_all()
                self._selector.close()
        return 1 if failed else 0

    def _watch(self) -> bool:
        """Until a stop is asked for (False) or the start fails (True)."""
        while not self._stop_asked:
            for key, _ in self._selector.select(self._patience_seconds()):
                if isinstance(key.data, _Child):
                    self._read_ready(key.data)
                else:
                    _drain(key.fileobj)
            for child in self._children:
                if child.process is not None and (code := child.process.poll()) is not None:
                    self._close_pipe(child, read_first=True)
                    if not child.was_ready:
                        log.error("start failed", service=child.service.name, how=ending(code))
                        return True
                    self._plan_restart(child, code)
                if child.restart_at is not None and child.restart_at <= time.monotonic():
                    self._start(child)
            if not self._announced and all(child.was_ready for child in self._children):
                self._announced = True
                self._on_ready({name: port for child in self._children for name, port in child.ports.items()})
        return False

    def _start(self, child: _Child) -> None:
        read_end, write_end = os.pipe()
        environment = child_environment()
        environment[READY_DESCRIPTOR] = str(write_end)
        variable = child.service.port_variable
        if variable is not None and child.ports:
            environment[variable] = str(next(iter(child.ports.values())))
        try:
            child.process = subprocess.Popen(
                [*self._command, *child.service.arguments],
                env=environment,
                pass_fds=(write_end,),
                stdin=subprocess.DEVNULL,
                # A group of its own: Ctrl-C reaches the supervisor alone, which stops in order.
                process_group=0,
            )
        finally:
            os.close(write_end)
        # A grandchild may keep the write end open after the child died; a read must not wait for it.
        os.set_blocking(read_end, False)
        child.pipe, child.line = read_end, b""
        child.started_at, child.restart_at = time.monotonic(), None
        self._selector.register(read_end, selectors.EVENT_READ, child)
        log.info("started", service=child.service.name, pid=child.process.pid)

    def _plan_restart(self, child: _Child, code: int) -> None:
        now = time.monotonic()
        child.failures = 1 if now - child.started_at > HEALTHY_SECONDS else child.failures + 1
        wait = back_off_seconds(child.failures)
        child.process, child.restart_at = None, now + wait
        log.error("ended", service=child.service.name, how=ending(code), restart_in_seconds=wait)
        self._note(f"{child.service.name} {ending(code)}; started again in {wait:.0f} s")

    def _read_ready(self, child: _Child) -> None:
        assert child.pipe is not None
        try:
            chunk = os.read(child.pipe, READY_LINE_BYTES_MAX)
        except BlockingIOError:
            return
        child.line += chunk
        if b"\n" in child.line:
            child.ports = {str(name): int(port) for name, port in json.loads(child.line).items()}
            child.was_ready = True
            log.info("ready", service=child.service.name, **{f"port_{n}": p for n, p in child.ports.items()})
            self._close_pipe(child)
        elif not chunk or len(child.line) > READY_LINE_BYTES_MAX:
            self._close_pipe(child)

    def _close_pipe(self, child: _Child, *, read_first: bool = False) -> None:
        if child.pipe is None:
            return
        if read_first and child.process is not None:
            # It may have said ready and ended within one turn of the loop.
            self._read_ready(child)
            if child.pipe is None:
                return
        self._selector.unregister(child.pipe)
        os.close(child.pipe)
        child.pipe = None

    def _patience_seconds(self) -> float | None:
        waits = [child.restart_at for child in self._children if child.restart_at is not None]
        return max(min(waits) - time.monotonic(), 0.0) if waits else None

    def _stop_all(self) -> None:
        for child in self._children:
            self._close_pipe(child)
            process, child.restart_at = child.process, None
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(child.service.stop_seconds)
            except subprocess.TimeoutExpired:
                log.error("killed", service=child.service.name, after_seconds=child.service.stop_seconds)
                process.kill()
                process.wait()
            log.info("stopped", service=child.service.name, how=ending(process.returncode))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals end the wait in `select`; without a wake-up one that falls before it would be lost."""
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGTERM: self._ask_stop,
            signal.SIGINT: self._ask_stop,
            signal.SIGCHLD: lambda *_: None,
        }
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        former_wake = signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(former_wake)
            for number, handler in former.items():
                signal.signal(number, handler)
            wake_read.close()
            wake_write.close()

    def _ask_stop(self, number: int, _: FrameType | None) -> None:
        self._stop_asked = True


def _drain(wake: object) -> None:
    assert isinstance(wake, socket.socket)
    with contextlib.suppress(BlockingIOError):
        while wake.recv(4096):
            pass


def preread_command() -> tuple[str, ...]:
    """What starts another `preread` of this installation."""
    return (sys.executable, "-m", "preread")


def child_environment() -> dict[str, str]:
    """Environment in which a child finds our packages, whether preread is installed or run from its folder.

    systemd's socket is left out: the supervisor speaks for all.
    """
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    environment[SUPERVISOR_PID] = str(os.getpid())
    if house() != Path(sysconfig.get_paths()["purelib"]).resolve():
        former = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(house()), *([former] if former else [])])
    return environment


def services_of(config: Path | None, *, workers: int) -> list[Service]:
    """Listener, `workers` workers and the page, in the order of starting and of stopping."""
    chosen = ("--config", str(config)) if config is not None else ()
    host = socket.gethostname()
    # A worker gives its job back within 30 s (reliability.md); the rest is for Python to end.
    reading = [
        Service(f"worker-{n}", ("worker", "--name", f"{host}-{n}", *chosen), 40.0)
        for n in range(1, workers + 1)
    ]
    return [
        Service("listener", ("listener", *chosen), 10.0, "PREREAD_LISTENER__PORT"),
        *reading,
        Service("web", ("web", *chosen), 10.0, "PREREAD_WEB__PORT"),
    ]


def prepare_state(settings: Settings) -> None:
    """Make the state folder, for this user alone, and bring the tables to the newest schema.

    Raises
    ------
    PrereadError
        The folder cannot be made, or the database cannot be reached; with the remedy.
    """
    try:
        settings.state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PrereadError(
            f"the state folder cannot be made ({error.strerror})",
            where=str(settings.state_folder),
            remedy="Give this user write access there, or set state_folder.",
        ) from error
    database = Database.open(settings.database_url)
    try:
        if not database.schema_is_current():
            database.migrate()
    finally:
        database.close()


def timeline_note(database: Database) -> Callable[[str], None]:
    """A note to the timeline of the node; a database that is away must not stop the supervisor."""

    def write(text: str) -> None:
        try:
            note(database, kind="service", text=text, source="serve")
        except PrereadError as error:
            log.warning("not in the timeline", text=text, why=str(error))

    return write
