"""One attack on a listener and its judgement: the prober was served, what was aimed at stayed bounded."""

import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from dicom_peer import Peer, associate_request
from listener_process import ListenerProcess, wait_until
from prober import ADDRESS, AE_TITLE, PATIENCE_SECONDS, Prober

from config.guards_off import VARIABLE, Guard

GAP_SECONDS_MAX = 1.0
# Listener, recorder, prober and attacker share two cores in CI, with whatever else runs there, and each probe
# waits for a sync of a disk that others write to: a few tenths become a second without any fault of ours.
SLACK_SECONDS = 1.5
ANSWER_SECONDS = 0.1 + SLACK_SECONDS
# The interpreter's heap grows in steps, and a buffer of 64 KiB to 1 MiB per connection is no leak.
MEMORY_SLACK_MIB = 16

ATTACKERS = ("MODALITY", "MODALITY2", "MODALITY3")
PEERS: tuple[dict[str, Any], ...] = (
    {"name": "pacs", "ae_title": AE_TITLE, "addresses": [ADDRESS]},
    *({"name": ae.lower(), "ae_title": ae, "addresses": ["127.0.0.0/8"]} for ae in ATTACKERS),
)

What = Literal[
    "prober", "gap", "memory", "threads", "descriptors", "deadline", "answer", "places", "rate", "end"
]


class Broken(AssertionError):
    """The listener did not withstand; `what` says in which respect."""

    def __init__(self, what: What, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.what = what


@dataclass(frozen=True)
class Scale:
    """How much of an attack there is, and the bounds of the listener it is aimed at."""

    seconds: float
    idle_peers: int
    request_seconds: float
    stall_seconds: float
    connections: int
    connections_per_second: float
    instance_mib: int

    def settings(self) -> dict[str, Any]:
        return {
            "request_seconds": self.request_seconds,
            "stall_seconds": self.stall_seconds,
            "connections_max": self.connections,
            "connections_per_second": self.connections_per_second,
            "instance_gib_max": self.instance_mib / 1024,
        }


SHORT = Scale(1.5, 300, 2.5, 2.5, 96, 20.0, 48)
LONG = Scale(10.0, 2000, 10.0, 30.0, 512, 100.0, 1024)


def besieged(
    folder: Path, scale: Scale, *, guard_off: Guard | None = None, tls: Mapping[str, Any] | None = None
) -> ListenerProcess:
    """A listener to attack."""
    environment = {VARIABLE: guard_off} if guard_off else {}
    return ListenerProcess(
        folder, peers=PEERS, listener=scale.settings(), tls=tls or {}, environment=environment
    )


class Siege:
    """One attack, from networks of its own: what the listener remembers of an address is not another's fault.

    Parameters
    ----------
    number : of the attack; its attackers have the addresses 127.number.0.0/16
    memory_mib : what the listener may take, beyond `MEMORY_SLACK_MIB`
    port : that is attacked, of the node's two
    """

    def __init__(
        self,
        node: ListenerProcess,
        prober: Prober,
        scale: Scale,
        *,
        number: int,
        memory_mib: int = 1,
        port: int | None = None,
    ) -> None:
        self.node, self.scale = node, scale
        self._port = port or node.port
        self._prober, self._number, self._memory_mib = prober, number, memory_mib
        self._peers: list[Peer] = []
        assert node.process is not None
        self._proc = Path("/proc") / str(node.process.pid)

    def __enter__(self) -> Self:
        (self._proc / "clear_refs").write_text("5")  # peak memory counts from here (proc(5))
        self._memory_before = self._status("VmRSS") >> 10
        self.threads_before, self.descriptors_before = self.threads, self.descriptors
        self.began_at = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            # The attackers stay for a visit that began when they all were there.
            attacked_at = time.monotonic()
            self._prober.wait(lambda probe: probe.began_at > attacked_at, seconds=4 * PATIENCE_SECONDS)
        ended_at = time.monotonic()
        for peer in self._peers:
            peer.close()
        if error is None:
            self._judge(ended_at)

    def _judge(self, ended_at: float) -> None:
        assert self.node.process is not None
        self.check("end", self.node.process.poll() is None, "the listener ended")
        self.check("end", "the recorder ended" not in self.node.log, "the recorder ended")
        seen = [probe for probe in list(self._prober.probes) if probe.began_at < ended_at]
        faults = [probe.fault for probe in seen if probe.ended_at > self.began_at and probe.fault]
        self.check("prober", not faults, f"a well-behaved peer failed {len(faults)} times: {faults[:3]}")
        served = [probe.ended_at for probe in seen if not probe.fault]
        gap = max(b - a for a, b in pairwise([*served, ended_at]) if b > self.began_at)
        self.check("gap", gap <= GAP_SECONDS_MAX + SLACK_SECONDS, f"nobody was served for {gap:.1f} s")
        grown = (self._status("VmHWM") >> 10) - self._memory_before
        self.check("memory", grown <= self._memory_mib + MEMORY_SLACK_MIB, f"{grown} MiB taken")

    @staticmethod
    def check(what: What, holds: bool, reason: str) -> None:
        """Raise `Broken` unless it holds."""
        if not holds:
            raise Broken(what, reason)

    def _status(self, name: str) -> int:
        lines = (self._proc / "status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(name + ":")))

    @property
    def threads(self) -> int:
        """Threads of the listener."""
        return self._status("Threads")

    @property
    def descriptors(self) -> int:
        """Open descriptors of the listener."""
        return len(list((self._proc / "fd").iterdir()))

    def peer(self, address: int = 1, *, timeout: float = 10.0, tls: ssl.SSLContext | None = None) -> Peer:
        """A connected attacker, closed at the end of the siege."""
        source = f"127.{self._number}.{address // 250}.{address % 250 + 1}"
        peer = Peer(self._port, timeout=timeout, source=source, tls=tls)
        self._peers.append(peer)
        return peer

    def associated(self, address: int = 1, *, calling: str = ATTACKERS[0], **request: Any) -> Peer:
        """An attacker whose association is accepted."""
        return self.peer(address).associate(associate_request(calling=calling, **request))

    def over(self) -> bool:
        """Whether the attack lasted long enough."""
        return time.monotonic() > self.began_at + self.scale.seconds

    def answer(self, peer: Peer, *, seconds: float = ANSWER_SECONDS, what: What = "answer") -> bytes:
        """All that the listener still says; `Broken` unless it ends the connection in time."""
        found = b""
        ends_at = time.monotonic() + seconds
        try:
            while True:
                peer.socket.settimeout(max(0.01, ends_at - time.monotonic()))
                part = peer.socket.recv(1 << 16)
                if not part:
                    return found
                found += part
        except TimeoutError:
            raise Broken(what, f"the listener did not hang up within {seconds:.1f} s") from None
        except ConnectionError:
            return found

    def aborted(self, peer: Peer, *, seconds: float = ANSWER_SECONDS, what: What = "answer") -> None:
        """`Broken` unless the peer is aborted in time, or reset: then an abort may be lost on its way."""
        said = self.answer(peer, seconds=seconds, what=what)
        self.check(what, not said or said[-10:-9] == b"\x07", f"{said!r} instead of an abort")

    def pumped(self, peer: Peer, chunk: bytes, *, mib: int) -> None:
        """Send again and again; `Broken` unless the listener cuts it off by `mib`."""
        peer.socket.settimeout(self.scale.stall_seconds + self.scale.seconds)
        with suppress(ConnectionError):
            for _ in range((mib << 20) // len(chunk) + 1):
                peer.send(chunk)
        self.answer(peer)

    def eventually(self, what: What, holds: Callable[[], bool], *, seconds: float, reason: str) -> None:
        """`Broken` unless it comes true in time."""
        try:
            wait_until(holds, seconds=seconds)
        except AssertionError:
            raise Broken(what, f"{reason} after {seconds:.1f} s") from None
