"""The embedded archive: a storage, C-ECHO and C-FIND SCP that keeps objects as files in one folder.

It stands in for the PACS in the demo and the tests. Files are numbered: nothing is named by what a peer sent.
"""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import, from a table
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

PENDING, SUCCESS, CANCELLED = 0xFF00, 0x0000, 0xFE00
CANNOT_UNDERSTAND, IDENTIFIER_MISMATCH = 0xC000, 0xA900
UID_OF_LEVEL = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
INDEXED = (
    *UID_OF_LEVEL.values(),
    *("SOPClassUID", "PatientID", "AccessionNumber", "StudyDate", "Modality", "SeriesDescription"),
)


@dataclass(frozen=True)
class Kept:
    """One object of the archive."""

    path: Path
    header: Dataset  # the attributes in INDEXED
    kept_at: float  # seconds since 1970


class EmbeddedArchive:
    """An archive on loopback; use it as a context manager.

    Parameters
    ----------
    folder : where objects are kept; made if absent
    ae_title : the title it answers to
    """

    def __init__(self, folder: Path, *, ae_title: str = "ARCHIVE") -> None:
        self._folder = folder
        self._ae_title = ae_title
        self._kept: dict[str, Kept] = {}
        self._lock = threading.Lock()
        self._server: Any = None

    def __enter__(self) -> "EmbeddedArchive":
        self._folder.mkdir(parents=True, exist_ok=True)
        ae = AE(ae_title=self._ae_title)
        ae.require_called_aet = True
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        ae.add_supported_context(Verification)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_CONN_OPEN, send_at_once),
        ]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    @property
    def port(self) -> int:
        """TCP port it listens on, once entered."""
        return int(self._server.server_address[1])

    def kept(self, sop_uid: str) -> Kept | None:
        """The object of this SOP Instance UID, None when it has not arrived."""
        with self._lock:
            return self._kept.get(sop_uid)

    def all_kept(self) -> list[Kept]:
        """Every object, in the order of arrival."""
        with self._lock:
            return list(self._kept.values())

    def _on_store(self, event: "evt.Event") -> int:
        content = event.encoded_dataset()
        with self._lock:
            path = self._folder / f"{len(self._kept) + 1:06d}.dcm"
            path.write_bytes(content)
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(INDEXED))
            sop_uid = str(header.get("SOPInstanceUID", ""))
            if sop_uid != getattr(event.request, "AffectedSOPInstanceUID", None):
                path.unlink()
                return IDENTIFIER_MISMATCH
            earlier = self._kept.get(sop_uid)
            if earlier is not None:
                # A repeat is the same object (deterministic UIDs): what came last is what stands.
                path.replace(earlier.path)
                path = earlier.path
            self._kept[sop_uid] = Kept(path, header, time.time())
        return SUCCESS

    def _on_find(self, event: "evt.Event") -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        level = str(query.get("QueryRetrieveLevel", ""))
        if level not in UID_OF_LEVEL:
            yield CANNOT_UNDERSTAND, None
            return
        answered: set[str] = set()
        for kept in self.all_kept():
            key = str(kept.header.get(UID_OF_LEVEL[level], ""))
            if key in answered or not _matches(query, kept.header):
                continue
            answered.add(key)
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, _answer(query, kept.header)


def send_at_once(event: "evt.Event") -> None:
    """Switch off Nagle's algorithm: with delayed acknowledgements it costs 40 ms for each object."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _matches(query: Dataset, header: Dataset) -> bool:
    """Single value and list of UID matching (PS3.4 C.2.2.2); an empty key matches everything."""
    for keyword in INDEXED:
        wanted = query.get(keyword)
        if not wanted:
            continue
        values = [wanted] if isinstance(wanted, str) else list(wanted)
        if str(header.get(keyword, "")) not in [str(value) for value in values]:
            return False
    return True


def _answer(query: Dataset, header: Dataset) -> Dataset:
    answer = Dataset()
    answer.QueryRetrieveLevel = query.QueryRetrieveLevel
    for element in query:
        if element.keyword and element.keyword != "QueryRetrieveLevel":
            setattr(answer, element.keyword, header.get(element.keyword, ""))
    return answer
