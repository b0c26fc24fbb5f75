"""Every known attack on the listener, against the real process, while a well-behaved peer visits it.

Each row of `THREATS` is an attack with what must stay bounded; the prober must never fail and never wait long
(`siege.GAP_SECONDS_MAX`). By default attacks are short and the bounds small; `--long` has both in full size.

The tests marked `guard_off` start the listener without one guard and expect the same attack to break what
that guard holds. There are none
- for unknown PDUs, lying lengths, data before an association, half a TLS hello, repeated contexts: these are
  the parser itself; without the check there is no meaning that the bytes could be given;
- for pipelined stores, duplicates and the order of shutting down: they try a promise, not a guard;
- for deflated datasets: what holds them off is a line that `listener/contexts.py` does not have;
- for the price of a negotiation: a caller without it is slowed down by the connection rate, which has one;
- for garbage on the port of TLS, and a handshake without end: OpenSSL ends them, we only hang up;
- for kill -9: `tests/integration/test_listener_kill_points.py` is that row.
"""

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import threats_connections as connections
import threats_datasets as datasets
import threats_protocol as protocol
import threats_tls as over_tls
from listener_process import ListenerProcess
from prober import Prober
from siege import LONG, SHORT, Broken, Scale, Siege, What, besieged
from tls_files import Authority

from config.guards_off import Guard


@dataclass(frozen=True)
class Threat:
    """An attack and the guards without which it succeeds, each with what then breaks."""

    attack: Callable[[Siege], None]
    guards: tuple[tuple[Guard, What], ...] = ()
    memory_mib: int = 1


THREATS = (
    Threat(connections.idle_10, (("request-deadline", "deadline"),)),
    Threat(connections.idle_200, memory_mib=5),
    Threat(connections.idle_2000, (("eviction", "prober"),), memory_mib=20),
    Threat(connections.slow_request),
    Threat(connections.stops_inside_a_message, (("stall-deadline", "deadline"),), memory_mib=5),
    Threat(protocol.request_of_4_gib, (("request-cap", "answer"),)),
    Threat(protocol.data_of_4_gib, (("pdu-cap", "answer"),)),
    Threat(protocol.unknown_pdu),
    Threat(protocol.thousand_contexts),
    Threat(protocol.million_items),
    Threat(protocol.lying_items),
    Threat(protocol.data_first),
    Threat(protocol.lying_values),
    Threat(protocol.endless_command, (("command-cap", "answer"),)),
    Threat(
        protocol.endless_dataset, (("instance-cap", "answer"), ("stream-to-disk", "memory")), memory_mib=8
    ),
    Threat(protocol.crumbs, (("fragment-mean", "answer"),)),
    Threat(datasets.nested_sequences, (("nesting", "answer"),)),
    Threat(datasets.other_uid, (("identity", "answer"),)),
    Threat(datasets.cut_short, (("dataset-walk", "answer"),)),
    Threat(datasets.noise),
    Threat(datasets.path_uid, (("uid-syntax", "answer"),)),
    Threat(connections.release_flood, (("connection-rate", "rate"),)),
    Threat(connections.abort_storm),
    Threat(connections.reset_storm, (("hang-up", "descriptors"),)),
    Threat(connections.costly_negotiations),
    Threat(connections.never_reads, (("back-pressure", "memory"),)),
    Threat(protocol.pipelined_stores, memory_mib=5),
    Threat(protocol.half_a_tls_hello),
    Threat(datasets.duplicate_conflict),
    Threat(protocol.deflate_bomb, memory_mib=8),
    Threat(datasets.huge_element),
    Threat(connections.associations_of_one_address, (("address-cap", "places"),), memory_mib=5),
    Threat(connections.associations_of_one_ae_title, (("ae-cap", "places"),), memory_mib=5),
    Threat(connections.associations_of_all_places, (("reserved-places", "prober"),), memory_mib=10),
    Threat(connections.unusual_places, memory_mib=5),
)
# On the port that speaks TLS, with a prober that speaks it, too.
TLS_THREATS = (
    Threat(over_tls.half_a_hello, (("request-deadline", "deadline"),), memory_mib=5),
    Threat(over_tls.silent_after_the_hello, memory_mib=5),
    Threat(over_tls.half_a_hello_from_everywhere, (("eviction", "prober"),), memory_mib=20),
    Threat(over_tls.hello_byte_by_byte, memory_mib=5),
    Threat(over_tls.garbage, memory_mib=5),
    Threat(over_tls.endless_handshake, memory_mib=5),
    Threat(over_tls.hello_flood, (("connection-rate", "rate"),), memory_mib=5),
    Threat(over_tls.nameless_flood, memory_mib=5),
    Threat(over_tls.reset_in_the_handshake, (("hang-up", "descriptors"),), memory_mib=5),
)
# Takes half a gibibyte, and a quarter of that in the listener.
LONG_THREATS = (Threat(connections.unusual_bytes, (("unusual-bytes", "memory"),), memory_mib=2 * 256),)


@pytest.fixture(scope="module", autouse=True)
def _room_for_the_attackers_sockets() -> Iterator[None]:
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(former[1], 8192), former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, former)


@pytest.fixture(scope="module")
def scale(request: pytest.FixtureRequest) -> Scale:
    return LONG if request.config.getoption("--long") else SHORT


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, scale: Scale, authority: Authority
) -> Iterator[ListenerProcess]:
    with besieged(tmp_path_factory.mktemp("node"), scale, tls=authority.settings()) as process:
        yield process


@pytest.fixture(scope="module")
def prober(node: ListenerProcess) -> Iterator[Prober]:
    with Prober(node.port) as visits:
        yield visits


def prober_over_tls(node: ListenerProcess, authority: Authority) -> Prober:
    own = authority.certify("prober")
    return Prober(node.tls_port, [authority.own.certificate, own.certificate, own.private_key])


@pytest.fixture(scope="module")
def tls_prober(node: ListenerProcess, authority: Authority) -> Iterator[Prober]:
    with prober_over_tls(node, authority) as visits:
        yield visits


def name_of(threat: Threat) -> str:
    return threat.attack.__name__


_EVERY = [*THREATS, *(pytest.param(each, marks=pytest.mark.long) for each in LONG_THREATS)]
_NUMBERS = {name_of(threat): n for n, threat in enumerate((*THREATS, *TLS_THREATS, *LONG_THREATS), start=1)}


def number_of(threat: Threat) -> int:
    return _NUMBERS[name_of(threat)]


@pytest.mark.parametrize("threat", _EVERY, ids=lambda threat: name_of(threat))
def test_listener_withstands(node: ListenerProcess, prober: Prober, scale: Scale, threat: Threat) -> None:
    with Siege(node, prober, scale, number=number_of(threat), memory_mib=threat.memory_mib) as siege:
        threat.attack(siege)


@pytest.mark.parametrize("threat", TLS_THREATS, ids=lambda threat: name_of(threat))
def test_listener_withstands_over_tls(
    node: ListenerProcess, tls_prober: Prober, scale: Scale, threat: Threat
) -> None:
    number, memory_mib = number_of(threat), threat.memory_mib
    with Siege(node, tls_prober, scale, number=number, memory_mib=memory_mib, port=node.tls_port) as siege:
        threat.attack(siege)


_GUARDS = [
    pytest.param(
        threat,
        guard,
        what,
        marks=[pytest.mark.long] if threat in LONG_THREATS else [],
        id=f"{name_of(threat)}-{guard}",
    )
    for threat in (*THREATS, *LONG_THREATS)
    for guard, what in threat.guards
]


@pytest.mark.guard_off
@pytest.mark.parametrize(("threat", "guard", "what"), _GUARDS)
def test_attack_succeeds_without_its_guard(
    tmp_path: Path, scale: Scale, threat: Threat, guard: Guard, what: What
) -> None:
    with (
        besieged(tmp_path, scale, guard_off=guard) as node,
        Prober(node.port) as prober,
        pytest.raises(Broken) as broken,
        Siege(node, prober, scale, number=number_of(threat), memory_mib=threat.memory_mib) as siege,
    ):
        threat.attack(siege)
    assert broken.value.what == what, broken.value


@pytest.mark.guard_off
@pytest.mark.parametrize(
    ("threat", "guard", "what"),
    [
        pytest.param(threat, guard, what, id=f"{name_of(threat)}-{guard}")
        for threat in TLS_THREATS
        for guard, what in threat.guards
    ],
)
def test_attack_over_tls_succeeds_without_its_guard(
    tmp_path: Path, scale: Scale, authority: Authority, threat: Threat, guard: Guard, what: What
) -> None:
    with (
        besieged(tmp_path, scale, guard_off=guard, tls=authority.settings()) as node,
        prober_over_tls(node, authority) as prober,
        pytest.raises(Broken) as broken,
        Siege(
            node,
            prober,
            scale,
            number=number_of(threat),
            memory_mib=threat.memory_mib,
            port=node.tls_port,
        ) as siege,
    ):
        threat.attack(siege)
    assert broken.value.what == what, broken.value
