"""One DICOM file that comes by HTTP: read as it arrives, kept in an unnamed file, ready for the intake.

The file has no name and goes with its last descriptor, so a crash leaves nothing behind and nothing is ever
held whole in memory. It is walked here once already: what is wrong with it costs the sender's own request,
not the loop's time. The loop walks it again and decides.
"""

import errno
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from config.settings import Settings
from listener.admission import (
    CANNOT_UNDERSTAND,
    DATASET_MISMATCH,
    IDENTITY,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    TRANSFER_SYNTAX_NOT_SUPPORTED,
    Refusal,
    is_uid,
    judge,
)
from listener.contexts import IMPLICIT_VR_LITTLE_ENDIAN, STORAGE_CLASSES, TRANSFER_SYNTAXES
from listener.dataset_scan import SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, DatasetScan
from listener.intake import Announced
from listener.part10 import FileMeta, NotPart10Error, Part10Reader

ROOM_CHECKED_BYTES = 64 << 20  # between looks at the free disk
STUDY_MISMATCH = 0xA901  # PS3.18 table I.2-2 leaves A9xx to us; other servers answer this number, too


class ReceivedFile:
    """Feed the bytes of one file, then `finish`; afterwards `file` and `size` are its dataset.

    Parameters
    ----------
    study_uid : the only study it may belong to; None: any
    """

    def __init__(self, settings: Settings, *, study_uid: str | None = None) -> None:
        self.refusal: Refusal | None = None
        self.size = 0
        self._study_uid = study_uid
        self._folder: Path = settings.state_folder
        self._bytes_max = int(settings.listener.instance_gib_max * (1 << 30))
        self._gib_max = settings.listener.instance_gib_max
        self._reserve_bytes = int(settings.listener.reserve_gib * (1 << 30))
        self._room_checked_at = -ROOM_CHECKED_BYTES
        self._reader = Part10Reader()
        self._scan: DatasetScan | None = None
        # Not below the spool: only its writer touches that folder.
        self.file = tempfile.TemporaryFile(dir=self._folder, prefix="incoming-", buffering=0)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the bytes."""
        self.file.close()

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece; `refusal` is set when more of it is not needed."""
        if self.refusal is not None:
            return
        try:
            dataset = self._reader.feed(data)
            if self._scan is None and self._reader.meta is not None:
                self.refusal = _unsupported(self._reader.meta)
                self._scan = DatasetScan(
                    explicit=self._reader.meta.transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN, wanted=IDENTITY
                )
            if self.refusal is None and self._scan is not None and len(dataset):
                self._keep(dataset, self._scan)
        except NotPart10Error as error:
            self.refusal = Refusal(CANNOT_UNDERSTAND, str(error))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.refusal = Refusal(OUT_OF_RESOURCES, "the disk is full; try again later")

    def finish(self) -> Announced | Refusal:
        """The file ended: what to hand over, or why not."""
        if self.refusal is None:
            try:
                meta = self._reader.finish()
            except NotPart10Error as error:
                self.refusal = Refusal(CANNOT_UNDERSTAND, str(error))
            else:
                return self._judged(meta)
        return self.refusal

    @property
    def is_dicom(self) -> bool:
        """Whether the head of a DICOM file was there, whatever came behind it."""
        return self._reader.meta is not None

    @property
    def sop_class(self) -> str:
        """SOP Class UID by the dataset, else by the head; empty when neither says one."""
        return self._uid(SOP_CLASS_UID, self._reader.meta.sop_class if self._reader.meta else b"")

    @property
    def sop_instance(self) -> str:
        """SOP Instance UID by the dataset, else by the head; empty when neither says one."""
        return self._uid(SOP_INSTANCE_UID, self._reader.meta.sop_instance if self._reader.meta else b"")

    @property
    def study(self) -> str:
        """Study Instance UID; empty when there is none."""
        return self._uid(STUDY_INSTANCE_UID, b"")

    def _uid(self, tag: int, otherwise: bytes) -> str:
        found = self._scan.found.get(tag, b"").rstrip(b"\0 ") if self._scan else b""
        value = found or otherwise
        return value.decode("ascii") if is_uid(value) else ""

    def _keep(self, dataset: bytes | memoryview, scan: DatasetScan) -> None:
        if self.size + len(dataset) > self._bytes_max:
            self.refusal = Refusal(
                OUT_OF_RESOURCES, f"larger than listener.instance_gib_max, {self._gib_max:g} GiB"
            )
            return
        if self.size - self._room_checked_at >= ROOM_CHECKED_BYTES:
            self._room_checked_at = self.size
            free = os.statvfs(self._folder)
            if free.f_bavail * free.f_frsize < self._reserve_bytes:
                self.refusal = Refusal(OUT_OF_RESOURCES, "disk space is below the reserve; try again later")
                return
        scan.feed(dataset)
        if scan.fault is not None:
            self.refusal = Refusal(CANNOT_UNDERSTAND, scan.fault)
            return
        left = memoryview(dataset)
        while left:
            left = left[self.file.write(left) :]
        self.size += len(dataset)

    def _judged(self, meta: FileMeta) -> Announced | Refusal:
        assert self._scan is not None
        # A file whose head names no object is taken at the word of its dataset.
        sop_class = meta.sop_class or self.sop_class.encode()
        sop_instance = meta.sop_instance or self.sop_instance.encode()
        self.refusal = judge(self._scan, sop_class=sop_class, sop_instance=sop_instance)
        if self.refusal is not None and self.refusal.status == DATASET_MISMATCH:
            comment = self.refusal.comment.replace("the C-STORE request", "the file meta information")
            self.refusal = Refusal(DATASET_MISMATCH, comment)
        elif self.refusal is None and sop_class.decode() not in STORAGE_CLASSES:
            self.refusal = Refusal(SOP_CLASS_NOT_SUPPORTED, "objects of this SOP class are not stored here")
        elif self.refusal is None and self._study_uid not in (None, self.study):
            self.refusal = Refusal(STUDY_MISMATCH, "Study Instance UID is not that of the request")
        if self.refusal is not None:
            return self.refusal
        return Announced(sop_class, sop_instance, sop_class.decode(), meta.transfer_syntax)


def _unsupported(meta: FileMeta) -> Refusal | None:
    if meta.sop_class and meta.sop_class.decode("ascii", "replace") not in STORAGE_CLASSES:
        return Refusal(SOP_CLASS_NOT_SUPPORTED, "objects of this SOP class are not stored here")
    if meta.transfer_syntax not in TRANSFER_SYNTAXES:
        return Refusal(TRANSFER_SYNTAX_NOT_SUPPORTED, "its transfer syntax is not accepted here")
    return None
