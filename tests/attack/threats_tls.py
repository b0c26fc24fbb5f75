"""Attacks on the port that speaks TLS: handshakes that stop, crawl, lie or never end. One function each."""

import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from dicom_peer import Peer
from siege import SLACK_SECONDS, Siege
from threats_connections import SWEEP_SECONDS, descriptors_are_back, served_at_most

HALF_A_HELLO = bytes.fromhex("160301020001")


def client_hello() -> bytes:
    """The first flight of a peer that trusts nobody and shows nothing."""
    return new_client()[1]


def new_client() -> tuple[ssl.SSLObject, bytes, ssl.MemoryBIO, ssl.MemoryBIO]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return client, outgoing.read(), incoming, outgoing


def all_stall(siege: Siege, count: int, start: Callable[[Peer], object], *, addresses: int = 1) -> None:
    """Peers that begin a handshake and fall silent: no thread waits for them, the deadline closes them."""
    peers = []
    for number in range(count):
        peer = siege.peer(number % addresses)
        with suppress(ConnectionError):  # the oldest give way to the others
            start(peer)
        peers.append(peer)
    siege.check("threads", siege.threads == siege.threads_before, f"{siege.threads} threads")
    ends_at = time.monotonic() + siege.scale.request_seconds + SWEEP_SECONDS + SLACK_SECONDS
    for peer in peers:
        siege.answer(peer, seconds=max(0.1, ends_at - time.monotonic()), what="deadline")


def half_a_hello(siege: Siege) -> None:
    all_stall(siege, 30, lambda peer: peer.send(HALF_A_HELLO))


def silent_after_the_hello(siege: Siege) -> None:
    """Each has the certificate sent and a key agreed on before it falls silent."""

    def start(peer: Peer) -> None:
        peer.send(client_hello())
        peer.socket.recv(1)

    all_stall(siege, 30, start)


def half_a_hello_from_everywhere(siege: Siege) -> None:
    """From so many addresses that the cap of one address does not help."""
    count = siege.scale.idle_peers
    all_stall(siege, count, lambda peer: peer.send(HALF_A_HELLO), addresses=count // 30)


def hello_byte_by_byte(siege: Siege) -> None:
    """A byte resets no deadline."""
    hello = client_hello()
    peers = [siege.peer() for _ in range(20)]
    ends_at = time.monotonic() + siege.scale.request_seconds + SWEEP_SECONDS
    for at in range(len(hello) - 1):
        for peer in peers:
            with suppress(ConnectionError):
                peer.send(hello[at : at + 1])
        time.sleep(0.05)
        if time.monotonic() > ends_at:
            break
    for peer in peers:
        siege.answer(peer, seconds=SLACK_SECONDS, what="deadline")


def garbage(siege: Siege) -> None:
    """What is no TLS, or TLS that lies: hung up on at once, not at the deadline."""
    hello = client_hello()
    lies = [
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(2000),
        b"\x16\x03\x01\xff\xff" + os.urandom(1000),  # a record longer than there may be
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",  # a hello of 16 MiB
        hello[:5] + bytes(len(hello) - 5),
        b"\x17\x03\x03\x00\x10" + os.urandom(16),  # data before a handshake
        hello + b"\x17\x03\x03\x00\x40" + os.urandom(64),
        b"\x15\x03\x01\x00\x02\x02\x28",  # an alert
    ]
    for lie in lies * 3:
        siege.answer(siege.peer().send(lie))


def endless_handshake(siege: Siege) -> None:
    """A hello that says it is longer than any, sent without end in whole records."""
    record = b"\x16\x03\x01\x40\x00" + bytes(1 << 14)
    for _ in range(4):
        peer = siege.peer()
        with suppress(ConnectionError):
            peer.send(b"\x16\x03\x01\x00\x04\x01\x01\xff\xff")
        siege.pumped(peer, record, mib=1)


def hello_flood(siege: Siege) -> None:
    """Hello and away, as fast as it goes: each costs a signature, so the address is slowed to its rate."""
    hello, served = client_hello(), 0
    while not siege.over():
        peer = siege.peer().send(hello)
        served += bool(peer.socket.recv(1 << 14))
        peer.close()
    served_at_most(siege, served)


def nameless_flood(siege: Siege) -> None:
    """Whole handshakes without a certificate, each refused."""
    served = 0
    while not siege.over():
        client, hello, incoming, outgoing = new_client()
        peer = siege.peer().send(hello)
        with suppress(ConnectionError, ssl.SSLError):
            while incoming.write(peer.socket.recv(1 << 14)):
                with suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    peer.send(outgoing.read())
                    client.read(1)  # the alert
        served += 1
        peer.close()
    served_at_most(siege, served)


def reset_in_the_handshake(siege: Siege) -> None:
    """Half a hello and a reset: the descriptors do not wait for the deadline."""
    ends_at = time.monotonic() + min(0.3, siege.scale.request_seconds / 5)
    number = 0
    while time.monotonic() < ends_at:
        number += 1
        peer = siege.peer(number % 4).send(HALF_A_HELLO)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    descriptors_are_back(siege)
