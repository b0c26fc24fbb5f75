"""A sender that believes nothing: every answer must be a success, for this very message and this instance.

Datasets may be made while they are sent, so an instance of any size costs it no memory.
"""

import struct
from collections.abc import Iterable, Iterator

from dicom_peer import CT, STORE_CONTEXT, Peer, elements_of, even, fragments, pdu, pdv, store_command

PDV_HEADER_BYTES = 6
PDU_BYTES_MAX = 131_072
MESSAGE_IDS = 1 << 16


class NotStored(AssertionError):
    """An answer was not what a stored instance gets."""


class StrictSender:
    """Stores over one association, one instance after the other."""

    def __init__(self, peer: Peer) -> None:
        self._peer, self._message_id = peer, 0

    def store(self, uid: str, pieces: Iterable[bytes]) -> None:
        """Send one instance and check its answer. Raises `NotStored`."""
        self._message_id = self._message_id % (MESSAGE_IDS - 1) + 1
        command = store_command(uid.encode(), message_id=self._message_id)
        self._peer.send(fragments(STORE_CONTEXT, command, command=True))
        for fragment, is_last in _fragments(pieces):
            self._peer.send(pdu(4, pdv(STORE_CONTEXT, 2 * is_last, fragment)))
        self._check(self._peer.receive(), uid)

    def _check(self, answer: bytes, uid: str) -> None:
        said = elements_of(answer)
        expected = {  # PS3.7 table 9.3-2
            0x0002: even(CT.encode()),
            0x0100: struct.pack("<H", 0x8001),
            0x0120: struct.pack("<H", self._message_id),
            0x0800: struct.pack("<H", 0x0101),
            0x0900: struct.pack("<H", 0),
            0x1000: even(uid.encode()),
        }
        for element, value in expected.items():
            if said.get(element) != value:
                raise NotStored(f"{uid}: (0000,{element:04X}) is {said.get(element)!r}, not {value!r}")


def _fragments(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The same bytes in the longest fragments that are accepted, and which is the last."""
    size = PDU_BYTES_MAX - PDV_HEADER_BYTES
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) > size:
            yield bytes(held[:size]), False
            del held[:size]
    yield bytes(held), True
