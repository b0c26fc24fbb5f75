"""The files of a zip that somebody uploaded, within bounds: a zip is a hostile thing until it is read.

The directory of a zip is read whole by the standard library, so its size is looked at first; what its entries
say of their sizes is not believed, the bytes that come out are counted.
"""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

MAGIC = b"PK\x03\x04"
DIRECTORY_BYTES_MAX = 32 << 20
MEMBERS_MAX = 50_000
PIECE_BYTES = 1 << 18
# End of central directory record: signature, 3 numbers, entries, size and offset of the directory, comment.
_END, _END_MAGIC = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
_END64, _END64_MAGIC, _END64_BACK = struct.Struct("<4sQ2H2L4Q"), b"PK\x06\x06", 76
_COMMENT_BYTES_MAX = 65535

# What the standard library raises for an entry that is damaged, encrypted or packed in an unknown way.
MEMBER_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
)


class ZipRefused(Exception):
    """The zip as a whole is not read; says why."""


class OpenZip:
    """One zip.

    Parameters
    ----------
    bytes_max : of all its files together, unpacked

    Raises
    ------
    ZipRefused : damaged, or its directory is larger than any honest one
    """

    def __init__(self, file: BinaryIO, *, bytes_max: int) -> None:
        if _directory_bytes(file) > DIRECTORY_BYTES_MAX:
            raise ZipRefused("its directory is too large")
        try:
            self._zip = zipfile.ZipFile(file)
        except MEMBER_ERRORS as error:
            raise ZipRefused("it is damaged") from error
        self._left = bytes_max
        if len(self._zip.infolist()) > MEMBERS_MAX:
            raise ZipRefused(f"it holds more than {MEMBERS_MAX} files")

    def members(self) -> Iterator[zipfile.ZipInfo]:
        """Its files, without folders."""
        return (member for member in self._zip.infolist() if not member.is_dir())

    def pieces(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """One file unpacked. Raises `ZipRefused` above the limit, or one of `MEMBER_ERRORS`."""
        with self._zip.open(member) as unpacked:
            while piece := unpacked.read(PIECE_BYTES):
                self._left -= len(piece)
                if self._left < 0:
                    raise ZipRefused("unpacked it is larger than web.upload_gib_max")
                yield piece


def _directory_bytes(file: BinaryIO) -> int:
    """The size of the directory as the end of the zip says it; 0 when there is no such end."""
    size = file.seek(0, 2)
    start = max(0, size - _COMMENT_BYTES_MAX - _END.size - _END64_BACK)
    file.seek(start)
    tail = file.read()
    file.seek(0)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        return 0
    found = int(_END.unpack_from(tail, at)[5])
    if found == 0xFFFFFFFF:
        # ZIP64: a record of 56 bytes and a locator of 20 before this one.
        at64 = tail.rfind(_END64_MAGIC, 0, at)
        if at64 < 0 or len(tail) - at64 < _END64.size:
            return found
        return int(_END64.unpack_from(tail, at64)[8])
    return found
