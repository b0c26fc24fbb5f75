"""Start, supervise and stop the listener: the only place that wires its parts.

Two processes: this one receives (spool, loop, threads for unusual peers) and knows no database; its child
records and closes studies. When the child dies it is started again and goes on from its mark; receiving is
not touched. SIGTERM drains: no new connections, messages under way get 5 s, then sync and exit 0.
"""

import gc
import ipaddress
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from config import guards_off
from config.errors import PrereadError
from config.loading import load_settings
from config.logs import configure, logger
from config.settings import ListenerSettings, Settings
from db.spool import SpoolFailed, SpoolWriter
from listener.admission import Admission
from listener.guard import Limits, reserved_per_ae
from listener.intake import Intake
from listener.loop import BACKLOG, Loop
from listener.negotiate import Negotiator
from listener.recorder_link import STORE, ReceiverEnd
from listener.unusual import UnusualAssociations, UnusualLimits

SEGMENTS_AHEAD = 3
BUFFERED_BYTES_MAX = 256 << 20
TURN_SECONDS = 0.25
DRAIN_SECONDS = 5.0
UNUSUAL_SECONDS = 1.0
RECORDER_SECONDS = 3.0  # for the recorder to apply the rest; a stop takes less than 10 s in all
RESTART_SECONDS = (0.5, 30.0)  # first and longest wait before the recorder is started again
RESOLVE_SECONDS = 60.0
_OWN_DESCRIPTORS = 256
_ENDLESS = 1 << 30  # the limit of a guard that a test switched off


def run_listener(settings: Settings, *, ready: Callable[[int], None] | None = None) -> int:
    """Receive until SIGTERM or SIGINT; the exit status: 0, or 1 when the disk failed.

    Parameters
    ----------
    ready : called with the port once connections are accepted

    Raises
    ------
    PrereadError
        The port is taken, or the spool is locked or damaged.
    """
    for guard in guards_off.switched_off():
        logger("listener").warning("a guard is off: this node may receive nothing but a test", guard=guard)
    _raise_descriptor_limit(settings.listener.connections_max)
    link = ReceiverEnd()
    spool = SpoolWriter(
        settings.spool_folder,
        store=STORE,
        segment_bytes=settings.listener.segment_mib << 20,
        take_retired=link.retired,
        ahead=SEGMENTS_AHEAD,
        reserve_bytes=int(settings.listener.reserve_gib * (1 << 30)),
    )
    try:
        with spool:
            return _serve(settings, spool, link, ready)
    except SpoolFailed as error:
        logger("listener").error("the disk failed, the listener ends", reason=str(error))
        return 1
    finally:
        link.close()


def _serve(
    settings: Settings, spool: SpoolWriter, link: ReceiverEnd, ready: Callable[[int], None] | None
) -> int:
    listener = settings.listener
    intake = Intake(
        spool,
        admission=Admission(settings, resolve_hosts(settings)),
        instance_bytes_max=int(listener.instance_gib_max * (1 << 30)),
        buffered_bytes_max=BUFFERED_BYTES_MAX,
    )
    unusual = UnusualAssociations(ae_title=settings.node.ae_title, limits=_unusual_limits(listener))
    listening = _listen(listener.host, listener.port)
    loop = Loop(
        listening,
        intake=intake,
        negotiator=Negotiator(pdu_bytes_max=listener.pdu_bytes),
        limits=_limits(settings),
        pdu_bytes_max=listener.pdu_bytes,
        adopt=unusual.adopt,
        report=link.report,
        publish=link.publish,
    )
    unusual.serve_with(loop)
    loop.watch(link.socket.fileno(), link.receive)
    link.publish(spool.committed)
    recorder = RecorderProcess(settings, link)
    stopping = threading.Event()
    with _Signals(stopping, loop), _HostWatch(settings, intake):
        recorder.tend()
        gc.freeze()  # what lives now lives for good; the collector need not look at it again
        port = listening.getsockname()[1]
        logger("listener").info("listening", host=listener.host, port=port, ae_title=settings.node.ae_title)
        if ready is not None:
            ready(port)
        try:
            while not stopping.is_set():
                loop.turn(TURN_SECONDS)
                recorder.tend()
            _drain(loop)
        finally:
            unusual.close(UNUSUAL_SECONDS)
            loop.close()
            recorder.stop()
    logger("listener").info("stopped")
    return 0


def _drain(loop: Loop) -> None:
    loop.stop_accepting()
    ends_at = time.monotonic() + DRAIN_SECONDS
    while loop.connections and time.monotonic() < ends_at:
        loop.turn(0.05)


class RecorderProcess:
    """The recorder's process: started, watched, started again."""

    def __init__(self, settings: Settings, link: ReceiverEnd) -> None:
        self._settings, self._link = settings, link
        self._process: subprocess.Popen[bytes] | None = None
        self._tended_at = self._start_at = 0.0
        self._wait_seconds = RESTART_SECONDS[0]

    def tend(self) -> None:
        """Start the process when it is not there; cheap enough for every turn of the loop."""
        now = time.monotonic()
        if now - self._tended_at < TURN_SECONDS:
            return
        self._tended_at = now
        if self._process is not None and self._process.poll() is not None:
            logger("listener").warning("the recorder ended", status=self._process.returncode)
            ran_long = now - self._start_at > 2 * RESTART_SECONDS[1]
            self._wait_seconds = RESTART_SECONDS[0] if ran_long else self._wait_seconds
            self._process, self._start_at = None, now + self._wait_seconds
            self._wait_seconds = min(2 * self._wait_seconds, RESTART_SECONDS[1])
        if self._process is None and now >= self._start_at:
            self._start_at = now
            self._process = self._start()

    def stop(self) -> None:
        """Let it apply what is durable, shortly, and end."""
        self._link.stop()
        if self._process is None:
            return
        try:
            self._process.wait(RECORDER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the log is the truth; the next start replays it
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        descriptors = self._link.inherited
        process = subprocess.Popen(
            # -P: a folder named like one of our packages must not be taken for it.
            [sys.executable, "-P", "-m", "listener.recorder", *map(str, descriptors)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            stdin=subprocess.PIPE,
            pass_fds=descriptors,
            start_new_session=True,  # a terminal's Ctrl-C is ours; the recorder ends when we say so
        )
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(self._settings.model_dump_json().encode())
        return process


class _Signals:
    """SIGTERM and SIGINT set an event and wake the loop; the former handlers come back at the end."""

    def __init__(self, stopping: threading.Event, loop: Loop) -> None:
        self._stopping, self._loop = stopping, loop
        self._former: dict[int, object] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._caught)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself returned

    def _caught(self, _: int, __: FrameType | None) -> None:
        self._stopping.set()
        self._loop.wake()


class _HostWatch:
    """Looks peers' host names up again now and then, away from the loop: DNS may hang."""

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._settings, self._intake = settings, intake
        self._ended = threading.Event()

    def __enter__(self) -> None:
        if _named_hosts(self._settings):
            threading.Thread(target=self._watch, name="host-watch", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(RESOLVE_SECONDS):
            self._intake.admission = Admission(self._settings, resolve_hosts(self._settings))


def resolve_hosts(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    """Addresses of the peers' host names; one that cannot be resolved has none and may not call."""
    found = {}
    for host in _named_hosts(settings):
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            logger("listener").warning("a peer's host name has no address", host=host, reason=str(error))
            entries = []
        found[host] = tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in entries))
    return found


def _named_hosts(settings: Settings) -> list[str]:
    names = []
    for peer in settings.peers:
        if peer.host is not None and not peer.addresses:
            try:
                ipaddress.ip_address(peer.host)
            except ValueError:
                names.append(peer.host)
    return names


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise PrereadError(
            f"cannot listen on {host} port {port} ({error.strerror})",
            where="listener.port",
            remedy="Stop what uses the port, or set another listener.host and listener.port.",
        ) from error


def _limits(settings: Settings) -> Limits:
    listener, is_on = settings.listener, guards_off.is_on
    ae_titles = len({peer.ae_title for peer in settings.peers})
    reserved = reserved_per_ae(ae_titles, listener.connections_max)
    return Limits(
        connections_max=listener.connections_max,
        per_address_max=listener.connections_per_address_max if is_on("address-cap") else _ENDLESS,
        per_ae_max=listener.associations_per_ae_max if is_on("ae-cap") else _ENDLESS,
        reserved_per_ae=reserved if is_on("reserved-places") else 0,
        per_address_per_second=listener.connections_per_second if is_on("connection-rate") else _ENDLESS,
        request_seconds=listener.request_seconds if is_on("request-deadline") else _ENDLESS,
        idle_seconds=listener.idle_seconds,
        stall_seconds=listener.stall_seconds if is_on("stall-deadline") else _ENDLESS,
    )


def _unusual_limits(listener: ListenerSettings) -> UnusualLimits:
    return UnusualLimits(
        associations_max=listener.unusual_associations_max,
        pdu_bytes_max=listener.pdu_bytes,
        request_seconds=listener.request_seconds,
        idle_seconds=listener.idle_seconds,
        stall_seconds=listener.stall_seconds,
    )


def _raise_descriptor_limit(connections_max: int) -> None:
    """Room for every connection the settings allow, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max + _OWN_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        if limit < wanted:
            logger("listener").warning("fewer connections than listener.connections_max", descriptors=limit)


def main(config_path: Path) -> int:
    """Read the settings and run; what `preread listener` does."""
    settings = load_settings(config_path)
    configure(level=settings.log.level, form=settings.log.form)
    return run_listener(settings)
