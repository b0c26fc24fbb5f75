"""Reports storage commitment on associations of our own, when that of the request is gone (PS3.4 J.3.3).

We call the peer that asked and propose to be SCP (role selection, PS3.7 D.3.3.4). A report that fails is
tried again with the delivery's back-off and then parked: a person corrects the peer, and the next start sends
it. A report may arrive twice (its answer was lost), never not at all in silence.
"""

import threading
import time
from collections.abc import Sequence
from itertools import groupby

from pynetdicom import build_role
from pynetdicom.association import Association

from config.logs import logger
from config.settings import PeerSettings, Settings
from db.commitments import (
    commitment_not_reported,
    commitment_reported,
    due_commitments,
    seconds_to_next,
    words,
)
from db.engine import Database, DatabaseUnavailable
from db.records import JudgedCommitment
from db.refusals import refuse_association
from listener.calling import NotAssociated, associated, plain_context
from listener.commitment import failure_of, report_of
from listener.contexts import COMMITMENT, COMMITMENT_INSTANCE
from listener.reactor_turns import act_in_reactor

BATCH = 16  # reports on one association
ASSOCIATION_SECONDS = 30.0
TROUBLE_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 3600.0

NO_ADDRESS = "its association is closed, and no host and port of the peer are known here"


class Reports:
    """A thread that sends what is due."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self._settings, self._db = settings, db
        self._bell = threading.Event()
        self._log = logger("recorder")

    def start(self) -> None:
        """Send whatever becomes due from now on."""
        # A daemon: a hanging peer must not keep the process from ending.
        threading.Thread(target=self._run, name="reports", daemon=True).start()

    def look(self) -> None:
        """There may be something new."""
        self._bell.set()

    def _run(self) -> None:
        while True:
            self._bell.clear()
            try:
                while self.send_due():
                    pass
                wait = seconds_to_next(self._db)
            except DatabaseUnavailable:
                wait = TROUBLE_SECONDS
            except Exception:  # noqa: BLE001 whatever a library makes of a peer; the thread goes on
                self._log.exception("reports of storage commitment failed")
                wait = TROUBLE_SECONDS
            self._bell.wait(LONGEST_WAIT_SECONDS if wait is None else min(wait, LONGEST_WAIT_SECONDS))

    def send_due(self) -> int:
        """One association for each peer that something is due for; how many reports were tried."""
        due = sorted(due_commitments(self._db, limit=BATCH), key=_asker)
        for _, of_peer in groupby(due, key=_asker):
            self._send(list(of_peer))
        return len(due)

    def _send(self, due: Sequence[JudgedCommitment]) -> None:
        peer = reachable_peer(self._settings, *_asker(due[0]))
        if peer is None:
            for commitment in due:
                self._failed(commitment, NO_ADDRESS, "Give the peer its host and port.", tries_max=1)
            return
        remedy = f"Correct host and port of peer {peer.name}, or let it take reports as SCU."
        left = list(due)
        try:
            association = associated(
                peer,
                [plain_context(COMMITMENT)],
                called_for="storage commitment",
                calling_ae=self._settings.node.ae_title,
                seconds=ASSOCIATION_SECONDS,
                tls=self._settings.tls,
                roles=[build_role(COMMITMENT, scp_role=True)],
            )
            try:
                why = None if association.accepted_contexts[0].as_scp else "did not accept us as SCP"
                ends_at = time.monotonic() + ASSOCIATION_SECONDS
                while left and why is None:
                    why = report(association, left[0], ends_at=ends_at)
                    if why is None:
                        commitment_reported(self._db, left.pop(0).token)
            finally:
                if association.is_established:
                    association.release()
        except NotAssociated as error:
            why = error.what
        for commitment in left:
            self._failed(commitment, f"{peer.host}:{peer.port}: {why}", remedy)

    def _failed(
        self, commitment: JudgedCommitment, why: str, remedy: str, *, tries_max: int | None = None
    ) -> None:
        limits = self._settings.delivery
        self._log.info("storage commitment not reported", peer=commitment.source_ae, why=why)
        is_parked = commitment_not_reported(
            self._db,
            commitment.token,
            why,
            tries_max=tries_max or limits.tries_max,
            first_wait_seconds=limits.first_wait_seconds,
            wait_seconds_max=limits.wait_seconds_max,
        )
        if is_parked:
            refuse_association(
                self._db,
                calling_ae=commitment.source_ae,
                called_ae=self._settings.node.ae_title,
                address=commitment.address,
                reason=f"no report of storage commitment ({words(commitment.outcome)}): {why}",
                remedy=f"{remedy} The report is sent when the listener starts again.",
            )


def reachable_peer(settings: Settings, ae_title: str, address: str) -> PeerSettings | None:
    """PURE. Who is called to report to `ae_title` at `address`: of several, the one that is there."""
    known = [peer for peer in settings.peers if peer.ae_title == ae_title and peer.host and peer.port]
    return next((peer for peer in known if peer.host == address), known[0] if known else None)


def report(association: Association, commitment: JudgedCommitment, *, ends_at: float) -> str | None:
    """Send one report; why it was not taken, None: it was."""
    event_type, content = report_of(commitment.transaction_uid, commitment.references, commitment.outcome)
    why: list[str | None] = []

    def send() -> None:
        try:
            status, _ = association.send_n_event_report(content, event_type, COMMITMENT, COMMITMENT_INSTANCE)
        except (RuntimeError, ValueError):
            why.append("ended the association")
            return
        code = status.get("Status")
        why.append("gave no answer in time" if code is None else failure_of(int(code)))

    act_in_reactor(association, send, ends_at=ends_at)
    return why[0] if why else "ended the association or gave no answer in time"


def _asker(commitment: JudgedCommitment) -> tuple[str, str]:
    return (commitment.source_ae, commitment.address)
