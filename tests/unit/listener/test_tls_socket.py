"""However the network cuts what a peer encrypted, it is read once and in order; what is sent arrives once."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tls_files import Authority

from config.settings import TlsSettings
from config.tls import acceptor_context
from listener.tls_socket import TlsSocket


class Ends:
    """A TlsSocket and its peer, which is made of bytes."""

    def __init__(self, accepting: ssl.SSLContext, calling: ssl.SSLContext) -> None:
        ours, self.wire = socket.socketpair()
        ours.setblocking(False)
        self.wire.setblocking(False)
        self.ours = TlsSocket(ours, accepting)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.peer = calling.wrap_bio(self._incoming, self._outgoing)

    def shake_hands(self) -> None:
        while not self.ours.is_established:
            with suppress(ssl.SSLWantReadError):
                self.peer.do_handshake()
            self.wire.sendall(self._outgoing.read())
            with suppress(BlockingIOError):
                self.ours.handshake()
            self.hear()

    def encrypted(self, data: bytes, *, record: int = 1 << 14) -> bytes:
        for at in range(0, len(data), record):
            self.peer.write(data[at : at + record])
        return self._outgoing.read()

    def hear(self) -> bytes:
        """What came on the wire until now, decrypted."""
        with suppress(BlockingIOError):
            while part := self.wire.recv(1 << 16):
                self._incoming.write(part)
        found = b""
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while part := self.peer.read(1 << 16):
                found += part
        return found

    def close(self) -> None:
        self.ours.close()
        self.wire.close()


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = Authority.made(tmp_path_factory.mktemp("authority"))
    tls = TlsSettings.model_validate(authority.settings())
    return acceptor_context(tls), authority.client(authority.certify("scanner"))


@contextmanager
def connected(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Ends]:
    ends = Ends(*contexts)
    try:
        ends.shake_hands()
        yield ends
    finally:
        ends.close()


def drained(ours: TlsSocket, size: int) -> bytes:
    """All that can be read now through a buffer of a size."""
    found, buffer = b"", memoryview(bytearray(size))
    with suppress(BlockingIOError):
        while count := ours.recv_into(buffer):
            found += buffer[:count]
    assert not ours.has_unread, "who waits for the network would wait for ever"
    return found


@settings(max_examples=40, deadline=None)
@given(
    data=st.binary(max_size=3000).map(lambda seed: (seed or b"x") * 17),
    record=st.integers(1, 1 << 14),
    cut=st.integers(1, 5000),
    buffer=st.integers(1, 1 << 15),
    peeked=st.integers(0, 40_000),
)
def test_every_cut_reads_the_same(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    data: bytes,
    record: int,
    cut: int,
    buffer: int,
    peeked: int,
) -> None:
    with connected(contexts) as ends:
        wire, found = ends.encrypted(data, record=max(record, len(data) // 200)), b""
        cut = max(cut, len(wire) // 200)
        for at in range(0, len(wire), cut):
            ends.wire.sendall(wire[at : at + cut])
            if peeked:
                with suppress(BlockingIOError):
                    ahead = ends.ours.recv(peeked, socket.MSG_PEEK)
                    assert data[len(found) :].startswith(ahead)
                    found += ends.ours.recv(len(ahead) // 2)
            found += drained(ends.ours, buffer)
        assert found == data


def test_what_the_network_does_not_take_at_once_is_sent_once(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    with connected(contexts) as ends:
        ends.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        data = bytes(n % 251 for n in range(300_000))
        left, heard, waited = data, b"", 0
        while left:
            try:
                left = left[ends.ours.send(left) :]
            except BlockingIOError:
                waited += 1
                assert waited < 1000, "it never ends"
                heard += ends.hear()
        assert heard + ends.hear() == data
        assert waited


def test_both_sides_say_when_they_end(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with connected(contexts) as ends:
        ends.ours.shutdown(socket.SHUT_WR)
        ends.hear()
        with suppress(ssl.SSLZeroReturnError):
            assert ends.peer.read(1) == b"", "told by a close_notify, not by a cut"
    with connected(contexts) as ends:
        ends.wire.sendall(ends.encrypted(b"the last"))
        with suppress(ssl.SSLWantReadError, ssl.SSLError):
            ends.peer.unwrap()
        ends.wire.sendall(ends.encrypted(b""))
        buffer = memoryview(bytearray(100))
        assert bytes(buffer[: ends.ours.recv_into(buffer)]) == b"the last"
        assert ends.ours.recv_into(buffer) == 0


@settings(max_examples=150, deadline=None)
@given(
    garbage=st.binary(max_size=200), start=st.sampled_from([b"", b"\x16\x03\x01", b"\x16\x03\x01\0\x40\x01"])
)
def test_garbage_for_a_handshake_is_an_error_of_the_peer_or_waited_for(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], garbage: bytes, start: bytes
) -> None:
    ends = Ends(*contexts)
    try:
        ends.wire.sendall(start + garbage)
        with pytest.raises((ssl.SSLError, BlockingIOError)):
            ends.ours.handshake()
    finally:
        ends.close()


def test_record_that_was_changed_on_its_way_ends_the_connection(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    with connected(contexts) as ends:
        wire = bytearray(ends.encrypted(b"a message"))
        wire[-1] ^= 1
        ends.wire.sendall(wire)
        with pytest.raises(ssl.SSLError):
            ends.ours.recv_into(memoryview(bytearray(100)))
