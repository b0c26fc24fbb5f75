"""Deliver result objects: claim, send the stored bytes, record the peer's answer; one outcome per object.

Destinations are independent: each has an association of its own, and one that is away costs the others only
the time of its connection attempt. A delivery that was sent twice is the same object twice (K13), since its
bytes and UIDs are those of the first time.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.filereader import read_dataset

from config import kill_points
from config.logs import logger
from config.settings import PeerSettings, Settings
from db.engine import Database, DatabaseUnavailable
from db.instances import BytesMissing, ByteStore
from db.records import DeliveryClaim
from db.results import claim_delivery, extend_delivery, give_back_delivery, settle_delivery
from pipeline.outbound.association import (
    Answer,
    Outgoing,
    PeerUnreachable,
    associated,
    store,
    verification_kinds,
    verify,
)

BATCH: Final = 16  # objects of one association; bounds how long a destination holds the thread
_PREAMBLE_BYTES: Final = 132
_GROUP_LENGTH_BYTES: Final = 12

log = logger("delivery")


@dataclass(frozen=True)
class EchoReport:
    """A peer that answered C-ECHO, and how fast."""

    ae_title: str
    seconds: float

    def __str__(self) -> str:
        return f"answered C-ECHO in {self.seconds * 1000:.0f} ms"


def echo(settings: Settings, peer: PeerSettings) -> EchoReport:
    """C-ECHO to a peer.

    Raises
    ------
    PeerUnreachable
        No association, or the peer accepts no verification or did not answer it with success.
    """
    started = time.monotonic()
    with associated(
        peer,
        verification_kinds(),
        calling_ae=settings.node.ae_title,
        answer_seconds=settings.delivery.answer_seconds,
        tls=settings.tls,
    ) as association:
        if not association.is_established or not verify(association):
            raise PeerUnreachable(
                "accepted the association but does not answer C-ECHO",
                where=f"{peer.ae_title} at {peer.host}:{peer.port}",
                remedy="Allow the verification service (1.2.840.10008.1.1) for our AE title there.",
            )
        return EchoReport(peer.ae_title, time.monotonic() - started)


def outgoing(sop_class: str, sop_uid: str, part10: bytes) -> Outgoing:
    """What is sent of a stored Part 10 file: the dataset as it is, and its transfer syntax.

    Source: PS3.10 section 7.1
    """
    length = int.from_bytes(part10[_PREAMBLE_BYTES + 8 : _PREAMBLE_BYTES + _GROUP_LENGTH_BYTES], "little")
    start = _PREAMBLE_BYTES + _GROUP_LENGTH_BYTES
    meta = read_dataset(io.BytesIO(part10[start : start + length]), False, True)
    return Outgoing(sop_class, sop_uid, str(meta.TransferSyntaxUID), part10[start + length :])


class Delivering:
    """Sends what is due until it is told to stop, with a thread and a database of its own per destination.

    Parameters
    ----------
    worker : name under which deliveries are claimed
    """

    def __init__(self, settings: Settings, *, worker: str) -> None:
        self._settings, self._worker = settings, worker
        self._stop = threading.Event()
        self._bytes = ByteStore(settings.spool_folder)
        # None stands for destinations that were taken out of the settings: someone must say so.
        self._destinations: tuple[str | None, ...] = (
            *(peer.name for peer in settings.peers if peer.host is not None and peer.port is not None),
            None,
        )
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Send whatever becomes due, until `stop`."""
        for name in self._destinations:
            thread = threading.Thread(target=self._run, args=(name,), name=f"deliver-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """End after the objects under way; what hangs for longer is left to its lease."""
        self._stop.set()
        ends = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def deliver_due(self, database: Database) -> int:
        """Send what is due now, to one destination after the other; how many objects were settled."""
        return sum(self._deliver_to(database, name) for name in self._destinations)

    def _run(self, destination: str | None) -> None:
        database = Database.open(self._settings.database_url)
        poll_seconds = self._settings.worker.poll_seconds
        try:
            database.subscribe("deliveries")
            while not self._stop.is_set():
                try:
                    if not self._deliver_to(database, destination):
                        database.wait_for("deliveries", poll_seconds)
                except DatabaseUnavailable as error:
                    log.warning("database away", why=error.what)
                    self._stop.wait(poll_seconds)
                except Exception:
                    log.exception("delivery failed", destination=destination)
                    self._stop.wait(poll_seconds)
        finally:
            database.close()

    def _deliver_to(self, database: Database, destination: str | None) -> int:
        settled = 0
        while not self._stop.is_set():
            claims: list[DeliveryClaim] = []
            while len(claims) < BATCH and (claim := self._claim(database, destination)) is not None:
                claims.append(claim)
            if not claims:
                break
            settled += self._send(database, destination, claims)
        return settled

    def _claim(self, database: Database, destination: str | None) -> DeliveryClaim | None:
        known = tuple(name for name in self._destinations if name is not None)
        return claim_delivery(
            database,
            worker=self._worker,
            lease_seconds=self._lease_seconds(),
            destination=destination,
            except_for=known if destination is None else (),
        )

    def _send(self, database: Database, destination: str | None, claims: Sequence[DeliveryClaim]) -> int:
        peer = next((peer for peer in self._settings.peers if peer.name == destination), None)
        if peer is None:
            gone = Answer("park", "no peer of this name with host and port is in the settings any more")
            return sum(self._settle(database, claim, gone) for claim in claims)
        items = [self._read(claim) for claim in claims]
        kinds = [(item.sop_class, item.transfer_syntax) for item in items if isinstance(item, Outgoing)]
        settled = 0
        try:
            with associated(
                peer,
                kinds or verification_kinds(),
                calling_ae=self._settings.node.ae_title,
                answer_seconds=self._settings.delivery.answer_seconds,
                tls=self._settings.tls,
            ) as association:
                for claim, item in zip(claims, items, strict=True):
                    if self._stop.is_set():
                        give_back_delivery(database, claim)
                        continue
                    # A slow peer must not let the leases of the later ones run out.
                    if not extend_delivery(database, claim, self._lease_seconds()):
                        continue
                    answer = store(association, item) if isinstance(item, Outgoing) else item
                    if answer.status == "delivered":
                        kill_points.reached("K13")
                    settled += self._settle(database, claim, answer)
        except PeerUnreachable as error:
            away = Answer("retry", f"{error.where}: {error.what}")
            settled += sum(self._settle(database, claim, away) for claim in claims)
        return settled

    def _lease_seconds(self) -> float:
        """Long enough for one answer, whatever the worker's lease is."""
        return self._settings.worker.lease_seconds + self._settings.delivery.answer_seconds

    def _read(self, claim: DeliveryClaim) -> Outgoing | Answer:
        result = claim.result
        try:
            return outgoing(result.sop_class, result.sop_uid, self._bytes.read(result.location))
        except BytesMissing as error:
            return Answer("retry", f"the stored object cannot be read: {error.what}")

    def _settle(self, database: Database, claim: DeliveryClaim, answer: Answer) -> bool:
        limits = self._settings.delivery
        log.info(
            "delivery",
            status=answer.status,
            detail=answer.detail,
            destination=claim.destination,
            kind=claim.result.kind,
            sop_uid=claim.result.sop_uid,
            attempt=claim.attempts,
        )
        return settle_delivery(
            database,
            claim,
            status=answer.status,
            detail=answer.detail,
            tries_max=limits.tries_max,
            first_wait_seconds=limits.first_wait_seconds,
            wait_seconds_max=limits.wait_seconds_max,
        )
