"""TLS over a socket, behind the methods of a socket that the loop, `Connection` and `listener.unusual` use.

OpenSSL works in memory alone: what it reads and writes are two buffers, and every byte of the network is read
and sent here, so that neither a handshake nor a record ever waits for a peer. A call that cannot go on raises
BlockingIOError as a non-blocking socket does, or waits within the time-out that was set. Used by one thread
at a time, but for `shutdown` of both ways and `close`, which do not touch OpenSSL.
"""

import socket
import ssl
import time
from contextlib import suppress
from typing import cast

from config.certificates import Certificate, certificate_of

HANDSHAKE_BYTES = 16 << 10  # read per call: a peer that floods its handshake waits for its next turn
RECEIVE_BYTES = 128 << 10
RECORD_BYTES_MAX = 16 << 10  # RFC 8446 5.1


class TlsSocket:
    """The accepting side of a TLS connection.

    Parameters
    ----------
    sock : connected; this object owns it from now on
    context : of this connection for good, whatever certificates come later
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._plain = bytearray()  # decrypted ahead of who reads it
        self._unsent = b""  # encrypted
        self._owed = 0  # bytes of `send` that are encrypted and not all on their way
        self._holds_more = self._is_ended = self._is_shut = False
        self._timeout: float | None = None
        self.is_established = False

    def handshake(self) -> bool:
        """Go on with the handshake, as far as one reading takes it; True: it is done.

        Raises
        ------
        BlockingIOError : it waits for the peer
        ssl.SSLError : it failed, and the peer was told so
        OSError : the connection ended
        """
        if not self._step():
            self._fill(HANDSHAKE_BYTES)
            if self._is_ended:
                raise ConnectionResetError("the peer left during the handshake")
            if not self._step():
                raise BlockingIOError
        return True

    def _step(self) -> bool:
        try:
            self._tls.do_handshake()
            self.is_established = True
        except ssl.SSLWantReadError:
            pass
        finally:  # a flight of the handshake, or the alert that says why there is none
            try:
                self._flush()
            except BlockingIOError:
                # Some KiB at the very start do not fit: it does not read, and the rest will never be read.
                raise ConnectionAbortedError("the peer does not read the handshake") from None
        return self.is_established

    @property
    def certificate(self) -> Certificate | None:
        """The peer's, once the handshake is done."""
        return certificate_of(self._tls)

    @property
    def has_unread(self) -> bool:
        """Whether something can be read although the network brings nothing."""
        return bool(self._plain) or self._holds_more

    def recv(self, count: int, flags: int = 0) -> bytes:
        """Up to `count` bytes; with MSG_PEEK they stay. Empty at the end."""
        if self._is_shut:  # what comes behind our last word is thrown away, nobody decrypts it
            return self._sock.recv(count)
        wanted = count if flags & socket.MSG_PEEK else 1
        ends_at = None if self._timeout is None else time.monotonic() + self._timeout
        while len(self._plain) < wanted and not self._is_ended:
            if self._gather():
                continue
            try:
                self._fill(RECEIVE_BYTES, ends_at)
            except BlockingIOError:
                if not self._plain:
                    raise
                break
        found = bytes(self._plain[:count])
        if not flags & socket.MSG_PEEK:
            del self._plain[:count]
        return found

    def recv_into(self, buffer: memoryview) -> int:
        """Fill `buffer` as far as one reading of the network goes; 0 at the end."""
        count = min(len(buffer), len(self._plain))
        if count:
            buffer[:count] = self._plain[:count]
            del self._plain[:count]
            return count
        count = self._decrypt(buffer)
        if not count and not self._is_ended:
            self._fill(RECEIVE_BYTES)
            count = self._decrypt(buffer)
            if not count and not self._is_ended:
                raise BlockingIOError
        return count

    def send(self, data: bytes) -> int:
        """Encrypt and send some bytes; how many. After BlockingIOError: come again with the same bytes."""
        if not self._owed:
            self._flush()
            self._owed = self._tls.write(data[:RECORD_BYTES_MAX])
        self._flush()
        sent, self._owed = self._owed, 0
        return sent

    def shutdown(self, how: int) -> None:
        """End the connection; with SHUT_WR the peer is told by a close_notify, as far as it can be."""
        if how == socket.SHUT_WR:
            self._is_shut = True
            with suppress(ssl.SSLError, BlockingIOError):
                try:
                    self._tls.unwrap()
                finally:
                    self._flush()
        self._sock.shutdown(how)

    def close(self) -> None:
        """Give the socket back."""
        self._sock.close()

    def fileno(self) -> int:
        """Descriptor of the socket; -1 when it is closed."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """Whether calls wait."""
        self._timeout = None
        self._sock.setblocking(flag)

    def settimeout(self, seconds: float | None) -> None:
        """How long a call may wait."""
        self._timeout = seconds
        self._sock.settimeout(seconds)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option of the socket."""
        self._sock.setsockopt(level, option, value)

    def getsockname(self) -> tuple[str, int]:
        """Our address."""
        name: tuple[str, int] = self._sock.getsockname()
        return name

    def getpeername(self) -> tuple[str, int]:
        """The peer's address."""
        name: tuple[str, int] = self._sock.getpeername()
        return name

    def _fill(self, count: int, ends_at: float | None = None) -> None:
        """Read the network once, within what is left of the time-out: a record in crumbs resets none."""
        if ends_at is not None:
            left = ends_at - time.monotonic()
            if left <= 0:
                raise TimeoutError("the peer stopped inside a record")
            self._sock.settimeout(left)
        found = self._sock.recv(count)
        self._incoming.write(found)
        self._is_ended = not found

    def _gather(self) -> bool:
        """Decrypt all that was read; whether there was anything."""
        before = len(self._plain)
        try:
            while part := self._tls.read(RECORD_BYTES_MAX):
                self._plain += part
            self._is_ended = True  # close_notify
        except ssl.SSLWantReadError:
            pass
        self._holds_more = False
        return len(self._plain) > before

    def _decrypt(self, buffer: memoryview) -> int:
        count = 0
        try:
            while count < len(buffer):
                # Into place, without a copy; one record at a time is all that OpenSSL gives.
                got = cast(int, self._tls.read(len(buffer) - count, buffer[count:]))
                if not got:
                    self._is_ended = True
                    break
                count += got
        except ssl.SSLWantReadError:
            pass
        self._holds_more = count == len(buffer)
        return count

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
