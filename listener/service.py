"""Start, supervise and stop the listener: the only place that wires its parts.

This process receives (spool, loop, threads for unusual peers) and knows no database; a child records and
closes studies, another one speaks HTTP where STOW-RS is on. When a child dies it is started again and goes on
where it was; receiving is not touched. SIGTERM drains: no new connections, messages under way get 5 s, then
sync and exit 0.
"""

import gc
import ipaddress
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import FrameType

from config import guards_off
from config.loading import load_settings
from config.logs import configure, logger
from config.settings import ListenerSettings, Settings
from db.spool import SpoolFailed, SpoolWriter
from listener.admission import Admission
from listener.adopted import UnusualLimits
from listener.arrivals import SecurePort
from listener.child import ChildProcess
from listener.door import Door
from listener.guard import Limits, reserved_per_ae
from listener.intake import Intake
from listener.loop import Loop
from listener.negotiate import Negotiator
from listener.ports import listen
from listener.recorder_link import STORE, ReceiverEnd
from listener.served_certificate import ServedCertificate
from listener.step_lookups import StepLookups
from listener.stow.process import StowProcess
from listener.unusual import UnusualAssociations

SEGMENTS_AHEAD, SEGMENTS_STOCK = 3, 8  # at 64 MiB each, a large CT study meets segments that are ready
BUFFERED_BYTES_MAX = 256 << 20
TURN_SECONDS = 0.25
DRAIN_SECONDS = 5.0
UNUSUAL_SECONDS = 1.0
RECORDER_SECONDS = 3.0  # for the recorder to apply the rest; a stop takes less than 10 s in all
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
        stock=SEGMENTS_STOCK,
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
    listening = listen(listener.host, listener.port, setting="listener")
    secure = _secure_port(settings)
    loop = Loop(
        listening,
        intake=intake,
        negotiator=Negotiator(pdu_bytes_max=listener.pdu_bytes),
        limits=_limits(settings),
        pdu_bytes_max=listener.pdu_bytes,
        adopt=unusual.adopt,
        report=link.report,
        publish=link.publish,
        secure=secure,
    )
    lookups = StepLookups(loop.submit, link.ask_step)
    unusual.serve_with(loop, tried_report=link.tried_report, lookups=lookups)
    link.take_judged, link.take_step = unusual.report_judged, lookups.answered
    loop.watch(link.socket.fileno(), link.receive)
    link.live_since = spool.live_since
    link.publish(spool.committed)
    recorder = ChildProcess("recorder", "listener.recorder", settings, link.inherited)
    stopping = threading.Event()
    side_ways = _SideWays(settings, loop, intake)
    with _Signals(stopping, loop), _HostWatch(settings, intake), secure.served if secure else nullcontext():
        recorder.tend()
        gc.freeze()  # what lives now lives for good; the collector need not look at it again
        port = listening.getsockname()[1]
        logger("listener").info("listening", host=listener.host, port=port, ae_title=settings.node.ae_title)
        if secure is not None:
            port_of_tls = secure.listening.getsockname()[1]
            logger("listener").info("listening for TLS", host=settings.tls.host, port=port_of_tls)
        if ready is not None:
            ready(port)
        try:
            while not stopping.is_set():
                loop.turn(TURN_SECONDS)
                recorder.tend()
                side_ways.tend()
            _drain(loop, side_ways)
        finally:
            unusual.close(UNUSUAL_SECONDS)
            side_ways.close()
            loop.close()
            # Let it apply what is durable, shortly; the log is the truth, the next start replays the rest.
            link.stop()
            side_ways.wait()
            recorder.wait(RECORDER_SECONDS)
    logger("listener").info("stopped")
    return 0


def _secure_port(settings: Settings) -> SecurePort | None:
    tls = settings.tls
    if tls.port is None:
        return None
    return SecurePort(listen(tls.host, tls.port, setting="tls"), ServedCertificate(tls))


def _drain(loop: Loop, side_ways: "_SideWays") -> None:
    loop.stop_accepting()
    side_ways.stop()
    ends_at = time.monotonic() + DRAIN_SECONDS
    while (loop.connections or side_ways.are_busy) and time.monotonic() < ends_at:
        loop.turn(0.05)


class _SideWays:
    """The ways in beside C-STORE, where the settings want them: STOW-RS, uploads of the page, our C-GET."""

    def __init__(self, settings: Settings, loop: Loop, intake: Intake) -> None:
        self._door: Door | None = None
        self._stow: StowProcess | None = None
        fetches = any(peer.fetch_missing == "c-get" for peer in settings.peers)
        if settings.stow.port is not None or settings.web.upload or fetches:
            self._door = Door(settings.state_folder, loop=loop, intake=intake)
        if settings.stow.port is not None:
            self._stow = StowProcess(settings)

    def tend(self) -> None:
        """Keep the server's process alive."""
        if self._stow is not None:
            self._stow.tend()

    def stop(self) -> None:
        """Take no new request; those under way go on."""
        if self._stow is not None:
            self._stow.stop()

    @property
    def are_busy(self) -> bool:
        """Whether a request may be under way."""
        return self._stow is not None and self._stow.is_running

    def close(self) -> None:
        """Take nothing more; what waits is answered when the loop closes."""
        if self._door is not None:
            self._door.close()
        self.stop()

    def wait(self) -> None:
        """Until every process of these ways ended."""
        if self._stow is not None:
            self._stow.wait()


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
