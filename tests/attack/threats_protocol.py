"""Attacks by PDUs and messages that lie about themselves or never end. One function each."""

import struct
from contextlib import suppress

from dicom_peer import (
    CT,
    DEFLATED,
    ECHO_CONTEXT,
    EXPLICIT,
    IMPLICIT,
    STORE_CONTEXT,
    VERIFICATION,
    associate_request,
    context,
    ct_dataset,
    echo_command,
    fragments,
    item,
    new_uid,
    pdu,
    pdv,
    status_of,
    store_command,
    store_message,
)
from siege import ATTACKERS, Siege

MIB = 1 << 20
# The walk of the dataset finds no fault with what follows, so that only its size can be refused.
ENDLESS_PIXELS = struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 0xFFFFFFFE)


def request(**parts: bytes) -> bytes:
    return associate_request(calling=ATTACKERS[0], **parts)  # type: ignore[arg-type]  # bytes are all we send


def store_start() -> bytes:
    return fragments(STORE_CONTEXT, store_command(new_uid().encode()), command=True)


def request_of_4_gib(siege: Siege) -> None:
    """Refused by its header, as is one of 1 MiB; what still comes is not kept."""
    for length in (0xFFFFFFFF, MIB):
        peer = siege.peer().send(pdu(1, b"", length=length))
        siege.aborted(peer)
        siege.pumped(peer, bytes(MIB), mib=32)


def data_of_4_gib(siege: Siege) -> None:
    peer = siege.associated().send(pdu(4, b"", length=0xFFFFFFFF))
    siege.aborted(peer)
    siege.pumped(peer, bytes(MIB), mib=32)


def unknown_pdu(siege: Siege) -> None:
    """Before and after association."""
    for peer in (siege.peer(), siege.associated()):
        siege.aborted(peer.send(pdu(0x42, bytes(4))))


def thousand_contexts(siege: Siege) -> None:
    """Identifiers repeat; once within the longest request there may be, once beyond it."""
    for count in (400, 1000):
        for _ in range(3):
            peer = siege.peer()
            with suppress(ConnectionError):
                peer.send(
                    request(
                        contexts=b"".join(context(2 * n + 1, CT, EXPLICIT, IMPLICIT) for n in range(count))
                    )
                )
            siege.aborted(peer)


def million_items(siege: Siege) -> None:
    peer = siege.peer()
    with suppress(ConnectionError):
        peer.send(request(extra=item(0x99, b"") * 1_000_000))
    siege.aborted(peer)


def lying_items(siege: Siege) -> None:
    for lie in (1, 60_000, -3):
        inner = (
            bytes([1, 0, 0, 0]) + item(0x30, CT.encode(), lie=lie) + item(0x40, EXPLICIT.encode(), lie=lie)
        )
        siege.aborted(siege.peer().send(request(contexts=item(0x20, inner, lie=lie))))


def data_first(siege: Siege) -> None:
    siege.aborted(siege.peer().send(fragments(STORE_CONTEXT, echo_command(), command=True)))


def lying_values(siege: Siege) -> None:
    """PDV lengths 0, 1, past the PDU and 4 GiB; empty P-DATA without end."""
    for length in (0, 1, 5000, 0xFFFFFFFF):
        siege.aborted(siege.associated().send(pdu(4, struct.pack(">LBB", length, 1, 3) + bytes(20))))
    siege.aborted(siege.associated().send(pdu(4, b"") * 100))


def endless_command(siege: Siege) -> None:
    siege.pumped(siege.associated(), pdu(4, pdv(STORE_CONTEXT, 1, bytes(16_000))) * 64, mib=64)


def endless_dataset(siege: Siege) -> None:
    """Streamed to disk, refused at the largest instance, cut off at twice that."""
    peer = siege.associated().send(store_start())
    peer.send(pdu(4, pdv(STORE_CONTEXT, 0, ENDLESS_PIXELS)))
    siege.pumped(peer, pdu(4, pdv(STORE_CONTEXT, 0, bytes(16_000))) * 64, mib=3 * siege.scale.instance_mib)


def crumbs(siege: Siege) -> None:
    """A dataset in values of one byte."""
    peer = siege.associated().send(store_start())
    siege.pumped(peer, pdu(4, pdv(STORE_CONTEXT, 0, b"x") * 2000) * 8, mib=2)


def pipelined_stores(siege: Siege) -> None:
    """200 sent before an answer is read: each is answered, in order."""
    peer = siege.associated()
    uids = [new_uid() for _ in range(200)]
    peer.send(b"".join(store_message(u, ct_dataset(u), message_id=n + 1) for n, u in enumerate(uids)))
    for number in range(len(uids)):
        answer = peer.receive()
        responded_to = struct.pack("<HHLH", 0, 0x0120, 2, number + 1)
        siege.check("answer", status_of(answer) == 0, f"status {status_of(answer):04X}")
        siege.check("answer", responded_to in answer, f"answer {number + 1} is not in its place")
    siege.check("answer", set(uids) <= siege.node.kept().keys(), "acknowledged and not kept")


def half_a_tls_hello(siege: Siege) -> None:
    """On a port without TLS it is an unknown PDU."""
    for _ in range(10):
        siege.aborted(siege.peer().send(bytes.fromhex("160301020001")))


def deflate_bomb(siege: Siege) -> None:
    """Deflated datasets are not taken: nothing is ever inflated on receipt."""
    contexts = context(STORE_CONTEXT, CT, DEFLATED) + context(ECHO_CONTEXT, VERIFICATION, IMPLICIT)
    peer = siege.associated(contexts=contexts)
    siege.check("answer", peer.echo() == 0, "no echo")
    siege.aborted(peer.send(store_start()))
