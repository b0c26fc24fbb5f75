"""Attacks by connecting: silence, slowness, floods, associations that are only held. One function each."""

import socket
import struct
import time
from collections import deque
from contextlib import suppress

from dicom_peer import (
    ECHO_CONTEXT,
    EXPLICIT,
    STORE_CONTEXT,
    Peer,
    Refused,
    associate_request,
    context,
    echo_command,
    fragments,
    item,
    new_uid,
    pdu,
    store_command,
)
from siege import ATTACKERS, SLACK_SECONDS, Siege

from listener.guard import BURST_SECONDS

SWEEP_SECONDS = 1.0  # deadlines are looked at now and then
RATE_SLACK = 5  # connections that were under way at either end of the attack
ADDRESS_CAP = AE_CAP = 32  # the defaults of listener.connections_per_address_max and associations_per_ae_max
UNUSUAL = item(0x53, b"\0\1\0\1")


def idle(siege: Siege, count: int, *, addresses: int = 1) -> None:
    """Connections that say nothing: no thread is made for them, and all are closed at the deadline."""
    peers = [siege.peer(n % addresses) for n in range(count)]
    siege.check("threads", siege.threads == siege.threads_before, f"{siege.threads} threads")
    ends_at = time.monotonic() + siege.scale.request_seconds + SWEEP_SECONDS + SLACK_SECONDS
    for peer in peers:
        siege.answer(peer, seconds=ends_at - time.monotonic(), what="deadline")


def idle_10(siege: Siege) -> None:
    idle(siege, 10)


def idle_200(siege: Siege) -> None:
    idle(siege, 200)


def idle_2000(siege: Siege) -> None:
    """From so many addresses that the cap of one address does not help."""
    idle(siege, siege.scale.idle_peers, addresses=siege.scale.idle_peers // 30)


def slow_request(siege: Siege) -> None:
    """A-ASSOCIATE-RQ byte by byte: a byte resets no deadline."""
    request = associate_request(calling=ATTACKERS[0])
    peers = [siege.peer() for _ in range(20)]
    ends_at = time.monotonic() + siege.scale.request_seconds + SWEEP_SECONDS
    for at in range(len(request)):
        for peer in peers:
            with suppress(ConnectionError):
                peer.send(request[at : at + 1])
        time.sleep(0.05)
        if time.monotonic() > ends_at:
            break
    for peer in peers:
        siege.answer(peer, seconds=SLACK_SECONDS, what="deadline")


def stops_inside_a_message(siege: Siege) -> None:
    """Associations that stop inside a PDU: their places are free again at the deadline."""
    start = fragments(STORE_CONTEXT, store_command(new_uid().encode()), command=True)[:40]
    peers = [siege.associated() for _ in range(20)]
    for peer in peers:
        peer.send(start)
    ends_at = time.monotonic() + siege.scale.stall_seconds + SWEEP_SECONDS + SLACK_SECONDS
    for peer in peers:
        siege.aborted(peer, seconds=ends_at - time.monotonic(), what="deadline")


def served_at_most(siege: Siege, served: int) -> None:
    seconds = time.monotonic() - siege.began_at + BURST_SECONDS
    most = siege.scale.connections_per_second * seconds + RATE_SLACK
    siege.check("rate", served <= most, f"{served} associations, more than {most:.0f}")


def release_flood(siege: Siege) -> None:
    """Associate and release as fast as it goes: one address is slowed down to its rate."""
    served = 0
    while not siege.over():
        siege.associated().release()
        served += 1
    served_at_most(siege, served)


def abort_storm(siege: Siege) -> None:
    """Associate and abort: as before, and no thread or descriptor is left."""
    served = 0
    while not siege.over():
        siege.associated().send(pdu(7, bytes(4))).close()
        served += 1
    served_at_most(siege, served)
    descriptors_are_back(siege)
    siege.check("threads", siege.threads <= siege.threads_before, f"{siege.threads} threads")


def descriptors_are_back(siege: Siege) -> None:
    # The prober and the recorder's database may hold a few at any time.
    most = siege.descriptors_before + 5
    siege.eventually(
        "descriptors",
        lambda: siege.descriptors <= most,
        seconds=0.5 + SLACK_SECONDS / 2,
        reason=f"more than {most} descriptors are held",
    )


def reset_storm(siege: Siege) -> None:
    """Half a request and a reset: the descriptors do not wait for the deadline."""
    ends_at = time.monotonic() + min(0.3, siege.scale.request_seconds / 5)
    half = associate_request(calling=ATTACKERS[0])[:50]
    number = 0
    while time.monotonic() < ends_at:
        number += 1
        peer = siege.peer(number % 4).send(half)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    descriptors_are_back(siege)


def costly_negotiations(siege: Siege) -> None:
    """Whole requests of 60 KiB, each different: what an answer costs counts against its address."""
    syntaxes = [f"1.2.3.{n}" for n in range(40)]
    contexts = b"".join(context(2 * n + 1, f"1.2.4.{n}", *syntaxes) for n in range(100))
    number, peers = 0, deque[Peer](maxlen=ADDRESS_CAP)
    while not siege.over():
        number += 1
        version = item(0x55, b"%d" % number)
        request = associate_request(calling=ATTACKERS[0], contexts=contexts, user_items=version)
        if len(peers) == ADDRESS_CAP:
            peers[0].close()
        with suppress(ConnectionError, TimeoutError):
            peers.append(siege.peer(timeout=0.2).send(request))


def never_reads(siege: Siege) -> None:
    """Requests without end, answers never read: who does not read is not read either."""
    echoes = fragments(ECHO_CONTEXT, echo_command(), command=True) * 50
    peers, taken = [], [0] * 4
    for _ in taken:
        peer = siege.peer()
        # Small buffers of the kernel, or they alone would hold megabytes.
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        peers.append(peer.associate(associate_request(calling=ATTACKERS[0])))
        peer.socket.setblocking(False)
    progressed_at = time.monotonic()
    while time.monotonic() < progressed_at + SLACK_SECONDS:
        for number, peer in enumerate(peers):
            with suppress(BlockingIOError, ConnectionError):
                taken[number] += peer.socket.send(echoes)
                progressed_at = time.monotonic()
        time.sleep(0.001)
        siege.check("memory", max(taken) < 2 << 20, f"{max(taken) >> 10} KiB of requests taken")


def refused_places(siege: Siege, peers: list[tuple[int, str]]) -> int:
    """Try to hold associations, each from an address with an AE title; how many were refused."""
    refused = 0
    for address, calling in peers:
        try:
            siege.associated(address, calling=calling)
        except Refused:
            refused += 1
    return refused


def associations_of_one_address(siege: Siege) -> None:
    """More associations than one address may hold, under all its AE titles."""
    tried = 60
    refused = refused_places(siege, [(1, ATTACKERS[n % 2]) for n in range(tried)])
    siege.check("places", tried - refused <= ADDRESS_CAP, f"{tried - refused} accepted of one address")


def associations_of_one_ae_title(siege: Siege) -> None:
    """One AE title from many addresses."""
    tried = 60
    refused = refused_places(siege, [(n % 4, ATTACKERS[0]) for n in range(tried)])
    siege.check("places", tried - refused <= AE_CAP, f"{tried - refused} accepted of one AE title")


def associations_of_all_places(siege: Siege) -> None:
    """Several AE titles take all there are, but for those kept for the others."""
    tried = [(10 * number + n % 4, ae) for number, ae in enumerate(ATTACKERS) for n in range(AE_CAP)]
    refused_places(siege, tried)


def unusual_places(siege: Siege) -> None:
    """One address takes all it can of the associations served by threads; another still gets one."""
    for _ in range(9):
        with suppress(Refused):
            siege.associated(1, user_items=UNUSUAL)
    try:
        siege.associated(2, user_items=UNUSUAL)
    except Refused:
        siege.check("places", False, "one address holds all unusual associations")


def unusual_bytes(siege: Siege) -> None:
    """Unusual associations, held in memory by pynetdicom, together send more than may be held."""
    chunk = pdu(4, struct.pack(">LBB", 16002, STORE_CONTEXT, 0) + bytes(16000)) * 64
    start = fragments(STORE_CONTEXT, store_command(new_uid().encode()), command=True)
    peers: list[Peer] = []
    for number in range(4):
        contexts = context(STORE_CONTEXT, "1.2.840.10008.5.1.4.1.1.2", EXPLICIT)
        peers.append(siege.associated(number, contexts=contexts, user_items=UNUSUAL).send(start))
    sent = 0
    while peers and sent < 600 << 20:
        for peer in list(peers):
            try:
                peer.send(chunk)
                sent += len(chunk)
            except OSError:
                peers.remove(peer)
    siege.check("memory", not peers, f"{sent >> 20} MiB were taken")
