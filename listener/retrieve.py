"""Ask an archive for the missing instances of a study: C-MOVE to this node, or C-GET on the same association.

Study Root. Instances that are known are asked for at IMAGE level, lists of UIDs in one request (PS3.4
C.4.2.2.1, C.4.3.2.1); of what is only counted the whole series is. C-MOVE comes in by the listener's own port
like everything else. What comes by C-GET is held against the question (an archive may send what it likes),
then handed to the listener's door (`listener.handover`): the same admission, walk and sync as for a C-STORE,
and acknowledged after that. Bounded in time, bytes and PDUs, as in `listener.calling`.
"""

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import, from a table
    StudyRootQueryRetrieveInformationModelGet as STUDY_ROOT_GET,
)
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelMove as STUDY_ROOT_MOVE,
)

from config.errors import PrereadError
from config.settings import PeerSettings, Settings
from listener.admission import (
    DATASET_MISMATCH,
    IDENTITY,
    OUT_OF_RESOURCES,
    SUCCESS,
    Refusal,
    plain_address,
)
from listener.calling import NotAssociated, associated, plain_context
from listener.contexts import IMPLICIT_VR_LITTLE_ENDIAN, STORAGE_CLASSES, TRANSFER_SYNTAXES
from listener.dataset_scan import SERIES_INSTANCE_UID, STUDY_INSTANCE_UID, DatasetScan
from listener.handover import hand_over
from listener.intake import Announced, Sender
from listener.missing import Missing

FETCH_SECONDS_MAX = 300.0  # for one try, from the connection to the last answer
RECEIVED_BYTES_MAX = 512 << 20  # by C-GET, in one try; the rest comes with the next one
UIDS_PER_REQUEST = 100
_PENDING = (0xFF00, 0xFF01)
_WORDS = {
    0xA701: "it is out of resources (0xA701)",
    0xA702: "it is out of resources (0xA702)",
    0xA801: "it does not know this node as a destination (0xA801)",
    0xA900: "it does not understand the question (0xA900)",
}


class NotRetrieved(PrereadError):
    """The archive could not be asked; says why."""


@dataclass
class Retrieved:
    """What came of one try.

    Parameters
    ----------
    sent : instances that the archive says it sent (C-MOVE), or that are durable here (C-GET)
    failed : those that it could not send, or that were refused here
    refused : why the first one was refused here
    stopped : why the archive went no further, when it did not
    """

    sent: int = 0
    failed: int = 0
    refused: str | None = None
    stopped: str | None = None


@dataclass
class _Request:
    """One identifier, and what may come of it."""

    series_uid: str
    uids: frozenset[str] = field(default_factory=frozenset)  # empty: all of the series

    def identifier(self, study_uid: str) -> Dataset:
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "IMAGE" if self.uids else "SERIES"
        identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study_uid, self.series_uid
        if self.uids:
            identifier.SOPInstanceUID = sorted(self.uids)
        return identifier


def retrieve_missing(
    peer: PeerSettings, study_uid: str, missing: Missing, *, settings: Settings
) -> Retrieved:
    """Ask `peer` for exactly what is missing of a study, the way its `fetch_missing` says.

    Raises
    ------
    NotRetrieved
        No connection, or the archive does not take the service.
    """
    retrieval = _Retrieval(peer, study_uid, settings)
    return retrieval.run(list(_requests(missing)))


def _requests(missing: Missing) -> Iterator[_Request]:
    for series_uid, uids in sorted(missing.named.items()):
        ordered = sorted(uids)
        for at in range(0, len(ordered), UIDS_PER_REQUEST):
            yield _Request(series_uid, frozenset(ordered[at : at + UIDS_PER_REQUEST]))
    for series_uid in sorted(missing.counted):
        yield _Request(series_uid)


class _Retrieval:
    """One try with one archive."""

    def __init__(self, peer: PeerSettings, study_uid: str, settings: Settings) -> None:
        self._peer, self._study_uid, self._settings = peer, study_uid, settings
        self._by_get = peer.fetch_missing == "c-get"
        self._asked = _Request("")
        self._found = Retrieved()

    def run(self, requests: Sequence[_Request]) -> Retrieved:
        try:
            association = associated(
                self._peer,
                self._contexts(),
                called_for=f"{self._service} (Study Root)",
                calling_ae=self._settings.node.ae_title,
                seconds=FETCH_SECONDS_MAX,
                bytes_max=RECEIVED_BYTES_MAX,
                tls=self._settings.tls,
                roles=[build_role(uid, scp_role=True) for uid in STORAGE_CLASSES] if self._by_get else [],
                handlers=[(evt.EVT_C_STORE, self._take)],
            )
        except NotAssociated as error:
            raise self._trouble(error.what) from error
        try:
            for request in requests:
                self._asked = request
                self._found.stopped = self._ask(association, request)
                if self._found.stopped is not None:
                    break
        finally:
            if association.is_established:
                association.release()
        return self._found

    def _contexts(self) -> list[PresentationContext]:
        model = STUDY_ROOT_GET if self._by_get else STUDY_ROOT_MOVE
        contexts = [plain_context(model)]
        if self._by_get:
            contexts += [build_context(uid, list(TRANSFER_SYNTAXES)) for uid in STORAGE_CLASSES]
        return contexts

    def _ask(self, association: Association, request: _Request) -> str | None:
        """Why there is no use in going on; None: the next request may be put."""
        if not association.is_established:
            return "the association ended"
        identifier = request.identifier(self._study_uid)
        try:
            if self._by_get:
                answers = association.send_c_get(identifier, STUDY_ROOT_GET)
            else:
                answers = association.send_c_move(identifier, self._settings.node.ae_title, STUDY_ROOT_MOVE)
            ((last, _),) = deque(answers, maxlen=1)
        except ValueError:  # pynetdicom: no context was accepted for it
            return f"it does not take {self._service}"
        code = last.get("Status")
        if code is None:
            return "it gave no answer in time"
        if not self._by_get:
            self._found.sent += int(last.get("NumberOfCompletedSuboperations") or 0)
        self._found.failed += int(last.get("NumberOfFailedSuboperations") or 0)
        if code in (SUCCESS, 0xB000):  # 0xB000: some could not be sent
            return None
        return _WORDS.get(code, f"it answered 0x{code:04X}")

    def _take(self, event: evt.Event) -> int:
        """One instance of a C-GET; the status of its answer. Durable when that is a success (law 1)."""
        request: Any = event.request
        raw = request.DataSet.getvalue()
        announced = Announced(
            sop_class=str(request.AffectedSOPClassUID).encode("ascii", "replace"),
            sop_instance=str(request.AffectedSOPInstanceUID).encode("ascii", "replace"),
            abstract_syntax=str(event.context.abstract_syntax),
            transfer_syntax=str(event.context.transfer_syntax),
        )
        refusal = self._unasked(announced, raw) or self._hand_over(event, announced, raw)
        if refusal is None:
            self._found.sent += 1
            return SUCCESS
        self._found.refused = self._found.refused or refusal.comment
        return refusal.status

    def _unasked(self, announced: Announced, raw: bytes) -> Refusal | None:
        """Why it is not what was asked for; the intake judges everything else."""
        uid = announced.sop_instance.decode("ascii", "replace")
        if not self._by_get or (self._asked.uids and uid not in self._asked.uids):
            return Refusal(DATASET_MISMATCH, "the archive sent an instance that was not asked for")
        scan = DatasetScan(explicit=announced.transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN, wanted=IDENTITY)
        scan.feed(raw)
        for tag, wanted in (
            (STUDY_INSTANCE_UID, self._study_uid),
            (SERIES_INSTANCE_UID, self._asked.series_uid),
        ):
            if scan.found.get(tag, b"").rstrip(b"\0 ") != wanted.encode("ascii"):
                return Refusal(DATASET_MISMATCH, "the archive sent an instance of another series")
        return None

    def _hand_over(self, event: evt.Event, announced: Announced, raw: bytes) -> Refusal | None:
        transport: Any = event.assoc.dul.socket
        address = plain_address(transport.socket.getpeername()[0])
        sender = Sender(self._peer.ae_title, self._settings.node.ae_title, address)
        folder: Path = self._settings.state_folder
        try:
            with tempfile.TemporaryFile(dir=folder, prefix="incoming-", buffering=0) as file:
                file.write(raw)
                return hand_over(folder, sender, announced, descriptor=file.fileno(), size=len(raw))
        except OSError as error:
            return Refusal(OUT_OF_RESOURCES, f"it cannot be written ({error.strerror})")

    @property
    def _service(self) -> str:
        return "C-GET" if self._by_get else "C-MOVE"

    def _trouble(self, what: str) -> NotRetrieved:
        return NotRetrieved(
            what,
            where=f"{self._peer.ae_title} at {self._peer.host}:{self._peer.port}",
            remedy=f"Check the peer, or set fetch_missing of {self._peer.name} to no.",
        )
