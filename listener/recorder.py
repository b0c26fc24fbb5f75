"""The recorder: a process of its own that follows the spool's log, writes rows, and closes whole studies.

It is off the acknowledgement path: the receiver never waits for it, and while the database is away it keeps
trying and the log grows. Replay after a crash and the daily following are the same code: from the mark in the
database to the committed end of the log. Why a process: its Python would take turns with the receiver's
otherwise (docs/decisions/0005-spool-and-loop.md).
"""

import os
import select
import sys
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from config import kill_points
from config.errors import PrereadError
from config.logs import configure, logger
from config.settings import Settings
from db.commitments import (
    commitment_reported,
    judge_commitments,
    record_commitment,
    report_apart,
    resume_commitments,
)
from db.digests import stored_digest
from db.engine import Database, DatabaseUnavailable
from db.intake import (
    close_study,
    read_mark,
    receiving_studies,
    record_batch,
    refuse_association,
    rehearse_batch,
)
from db.notices import record_notice, unified_step_state
from db.pauses import longest_pauses
from db.records import AskedCommitment, Location, Mark, ReceivedInstance, ReceivedNotice, ReceivingStudy
from db.segments import forget_retired, take_retired
from db.spool_files import SpoolFiles
from db.spool_follow import follow
from db.spool_records import Replayed
from db.spool_segments import gone_for_good
from db.starting_early import queue_early_plan
from listener.attributes import received_instance
from listener.calm_digests import CalmDigests
from listener.commitment import asked_commitment, is_commitment
from listener.completeness import Evidence, Partial, Patience, WaitUntil, Whole, decide
from listener.evidence import EvidenceCollector
from listener.fetching import Fetching
from listener.loop import Refused
from listener.notices import is_notice, received_notice
from listener.recorder_link import STORE, AskedStep, RecorderEnd
from listener.reports import Reports
from listener.rhythm import Bounds, Rhythm, rhythms_of
from listener.whole_series import whole_series

BATCH_INSTANCES_MAX, BATCH_BYTES_MAX = 200, 64 << 20
GATHER_SECONDS = 0.05  # let a burst become one transaction
RETIRED_SECONDS = 30.0
REFUSALS_MAX = 500  # kept while the database is away
TROUBLE_SECONDS = (0.2, 5.0)  # first and longest wait while the database is away
NICE = 5
EARLY_KEPT = 10_000
LEARN_SECONDS = 600.0
LEARN_STUDIES_MAX = 1000  # all peers together
# A judged commitment is left so long to the association it was asked on; then it is reported on another one.
SAME_ASSOCIATION_SECONDS = 20.0
TRIED_REPORTS_MAX = 500
ASKED_STEPS_MAX = 100  # who asks waits, so there are never more than unusual associations
STOP_SECONDS = 2.0  # less than the receiver waits for this process


class Recorder:
    """Follows the log of one spool into one database."""

    def __init__(self, settings: Settings, db: Database, link: RecorderEnd) -> None:
        self._settings, self._db, self._link = settings, db, link
        self._rhythms: dict[tuple[str, str], Rhythm] = {}
        self._learnt_at = -LEARN_SECONDS
        self._patience = Patience.of(settings, self._rhythms)
        self._evidence = EvidenceCollector(settings, db, self._patience)
        self._fetching = Fetching(settings, db, self._patience)
        self._spool_folder = settings.spool_folder
        self._digests = CalmDigests(settings.spool_folder, db)
        self._mark: Mark | None = None
        self._is_starting = True
        self._look_at: float | None = 0.0  # when a study may be whole; None: none receives
        self._early: dict[tuple[int, str], None] = {}  # series that were handed over; a memory, no truth
        self._retired_at = 0.0
        self._offered: list[tuple[int, int]] = []
        self._trouble_seconds = 0.0
        self._refused: deque[Refused] = deque(maxlen=REFUSALS_MAX)
        self._tried_reports: deque[tuple[str, bool]] = deque(maxlen=TRIED_REPORTS_MAX)
        self._asked_steps: deque[tuple[AskedStep, Mark | None]] = deque(maxlen=ASKED_STEPS_MAX)
        self._may_judge = True
        self._reports = Reports(settings, db)
        self._log = logger("recorder")

    def run(self) -> None:
        """Work until the receiver says stop or is gone; what is committed by then is applied, if possible."""
        stop_at: float | None = None
        poll = select.poll()
        poll.register(self._link.bell, select.POLLIN)
        poll.register(self._link.socket, select.POLLIN)
        poll.register(self._fetching.bell, select.POLLIN)
        inquiries = self._evidence.inquiries
        if inquiries is not None:
            poll.register(inquiries.bell, select.POLLIN)
        while True:
            self._link.answer_bell()
            # Both bells are silenced, whichever rang.
            if self._fetching.silence() | (inquiries is not None and inquiries.silence()):
                self._look_at = 0.0
            self._refused.extend(self._link.refusals())
            self._tried_reports.extend(self._link.tried_reports())
            # What was acknowledged before a question is committed by now.
            committed = self._link.committed()
            self._asked_steps.extend((asked, committed) for asked in self._link.asked_steps())
            self._attempt()
            is_behind = self._is_behind()
            if self._link.is_stopping:
                stop_at = stop_at or time.monotonic() + STOP_SECONDS
                if not is_behind or time.monotonic() > stop_at:
                    return
            if is_behind and not self._trouble_seconds:
                continue
            poll.poll(1000 * self._wait_seconds())
            time.sleep(GATHER_SECONDS)

    def _attempt(self) -> None:
        """One round of work; a database that is away costs a wait, nothing else."""
        try:
            if self._is_starting:
                self._start()
            self._record_refusals()
            self._apply_batch()
            self._judge_commitments()
            self._note_tried_reports()
            self._answer_steps()
            self._close_whole_studies()
            self._offer_retired()
            if not self._is_behind() and not self._link.is_stopping:
                self._digests.step()
        except DatabaseUnavailable as error:
            if not self._trouble_seconds:
                self._log.warning("database away, instances wait in the spool", reason=str(error))
            self._trouble_seconds = min(
                TROUBLE_SECONDS[1], max(TROUBLE_SECONDS[0], 2 * self._trouble_seconds)
            )
        else:
            if self._trouble_seconds:
                self._log.info("database is back")
            self._trouble_seconds = 0.0

    def _start(self) -> None:
        if not self._db.schema_is_current():
            self._db.migrate()
        self._mark = read_mark(self._db, STORE)
        committed = self._link.committed()
        if self._mark and committed and _place(self._mark) > _place(committed):
            raise PrereadError(
                "the database knows a newer spool than the one in state_folder",
                where=str(self._spool_folder),
                remedy="Put the spool folder of this database back, or start with a new database.",
            )
        rehearse_batch(self._db)
        resume_commitments(self._db)
        self._reports.start()
        self._is_starting = False

    def _is_behind(self) -> bool:
        committed = self._link.committed()
        return committed is not None and committed != self._mark

    def _wait_seconds(self) -> float:
        if self._trouble_seconds:
            return self._trouble_seconds
        if self._mark is not None and (self._may_judge or self._digests.may_be_wanted):
            return 0.0
        until_look = RETIRED_SECONDS if self._look_at is None else self._look_at - time.time()
        return min(max(0.0, until_look), RETIRED_SECONDS)

    def _record_refusals(self) -> None:
        while self._refused:
            refuse_association(self._db, **asdict(self._refused[0]))
            self._refused.popleft()

    def _judge_commitments(self) -> None:
        """Find what is held of what was asked for before the mark; it is reported at once where that goes."""
        if not self._may_judge or self._mark is None:
            return
        judged = judge_commitments(self._db, self._mark, leave_seconds=SAME_ASSOCIATION_SECONDS)
        for commitment in judged:
            self._link.judged(commitment.token, commitment.outcome)
        self._may_judge = bool(judged)
        if judged:
            self._reports.look()

    def _note_tried_reports(self) -> None:
        while self._tried_reports:
            token, is_reported = self._tried_reports[0]
            if is_reported:
                commitment_reported(self._db, token)
            else:
                report_apart(self._db, token)
                self._reports.look()
            self._tried_reports.popleft()

    def _answer_steps(self) -> None:
        """Say what is known of the UPS that were asked for, once the log before the question is applied."""
        while self._asked_steps:
            asked, committed = self._asked_steps[0]
            if committed and (self._mark is None or _place(self._mark) < _place(committed)):
                return
            self._link.step(asked.token, unified_step_state(self._db, asked.source_ae, asked.sop_uid))
            self._asked_steps.popleft()

    def _apply_batch(self) -> None:
        """Record what lies between the mark and the committed end, at most one batch of it."""
        committed = self._link.committed()
        if committed is None or committed == self._mark:
            return
        batch: list[ReceivedInstance] = []
        notices: list[ReceivedNotice] = []
        asked: list[tuple[AskedCommitment, Mark]] = []
        size, end = 0, committed
        live_since = self._link.live_since
        for item in follow(self._spool_folder, STORE, self._mark, until=committed, live_since=live_since):
            kill_points.reached("K15")
            if is_commitment(item.meta):
                asked.append((asked_commitment(item.meta, b"".join(item.chunks())), item.end))
            elif is_notice(item.meta):
                notices.append(self._notice(item))
            else:
                batch.append(self._received(item))
            size += item.location.length
            if len(batch) + len(notices) + len(asked) == BATCH_INSTANCES_MAX or size >= BATCH_BYTES_MAX:
                end = item.end
                break
        for notice in notices:  # before the mark moves; a crash here repeats them, which changes nothing
            self._record_notice(notice)
        for commitment, asked_to in asked:
            self._record_commitment(commitment, asked_to)
        if batch or notices or asked:
            self._record(batch, end)
            self._look_at = 0.0
        self._mark = end

    def _received(self, item: Replayed) -> ReceivedInstance:
        uid_root = self._settings.node.uid_root
        return received_instance(item.meta, item.chunks, location=item.location, uid_root=uid_root)

    def _notice(self, item: Replayed) -> ReceivedNotice:
        payload = b"".join(item.chunks())
        return received_notice(item.meta, payload, uid_root=self._settings.node.uid_root)

    def _record_notice(self, notice: ReceivedNotice) -> None:
        try:
            record_notice(self._db, notice)
        except DatabaseUnavailable:
            raise
        except Exception:  # noqa: BLE001 without it a study closes by the other rules
            self._log.exception("notice not recorded", peer=notice.source_ae)

    def _record_commitment(self, asked: AskedCommitment, end: Mark) -> None:
        try:
            record_commitment(self._db, asked, end)
        except DatabaseUnavailable:
            raise
        except Exception:  # noqa: BLE001 its sender asks again when no report comes
            self._log.exception("request for storage commitment not recorded", peer=asked.source_ae)
        self._may_judge = True

    def _record(self, batch: Sequence[ReceivedInstance], end: Mark) -> None:
        try:
            outcome = record_batch(self._db, batch, end, digest_of=self._digest_of)
        except DatabaseUnavailable:
            raise
        except Exception:  # noqa: BLE001 one instance that no table can hold must not keep all others out
            self._log.exception("batch not recorded, its instances are tried one by one")
            for item in batch:
                self._record_alone(item)
            record_batch(self._db, (), end)
            return
        finally:
            self._digests.may_be_wanted = True
        self._log.info("recorded", new=outcome.new, repeated=outcome.repeated, conflicts=outcome.conflicts)

    def _record_alone(self, item: ReceivedInstance) -> None:
        try:
            record_batch(self._db, (item,), None, digest_of=self._digest_of)
        except DatabaseUnavailable:
            raise
        except Exception:  # noqa: BLE001 its attributes are what can be wrong; its UIDs were checked
            self._log.exception("instance recorded without its attributes", sop_uid=item.sop_uid)
            record_batch(self._db, (replace(item, attributes={}),), None, digest_of=self._digest_of)

    def _digest_of(self, location: Location) -> str | None:
        return stored_digest(self._spool_folder, location)

    def _close_whole_studies(self) -> None:
        now = time.time()
        if self._look_at is None or now < self._look_at:
            return
        if self._is_behind():
            return
        next_look: float | None = None
        self._learn()
        receiving = receiving_studies(self._db)
        self._fetching.take_answers(receiving, now)
        for study, evidence in self._evidence.of(receiving, now):
            decision = decide(evidence, now, self._patience)
            if isinstance(decision, WaitUntil):
                asked_at = self._evidence.ask_if_due(study, evidence, now)
                fetched_at = self._fetching.ask_if_due(study, evidence, now)
                settled_at = self._start_early(study, evidence, now)
                looks = (decision.at, asked_at, fetched_at, settled_at, next_look)
                next_look = min(at for at in looks if at is not None)
            else:
                self._close(study, decision)
        self._look_at = next_look

    def _learn(self) -> None:
        """Renew what is known of the peers' rhythms, now and then."""
        listener = self._settings.listener
        if not listener.quiet_learnt or time.monotonic() < self._learnt_at + LEARN_SECONDS:
            return
        pauses = longest_pauses(self._db, newest=LEARN_STUDIES_MAX)
        self._learnt_at = time.monotonic()
        before = dict(self._rhythms)
        self._rhythms.clear()
        self._rhythms.update(rhythms_of(pauses, Bounds.of(listener)))
        for (peer, modality), rhythm in self._rhythms.items():
            if before.get((peer, modality)) != rhythm:
                seconds, pause = round(rhythm.quiet_seconds, 1), round(rhythm.pause, 1)
                told = {"peer": peer, "modality": modality, "studies": rhythm.studies}
                self._log.info("quiet period learnt", quiet_seconds=seconds, pause_seconds=pause, **told)

    def _start_early(self, receiving: ReceivingStudy, evidence: Evidence, now: float) -> float | None:
        """Have a worker look at series that became whole; when to look again for more, None: no need.

        Only of the first revision: what comes late belongs to a study that was analysed already.
        """
        study = receiving.study
        if not self._settings.listener.start_early or study.revision != 1:
            return None
        found = whole_series(evidence, now, self._patience)
        fresh = {uid: proof for uid, proof in found.proofs.items() if (study.id, uid) not in self._early}
        instances = {series.series_uid: series.instances for series in evidence.series}
        for series_uid in fresh:
            # One plan looks at all of them; a series that has one already was forgotten by a restart.
            if queue_early_plan(
                self._db,
                study.id,
                study.revision,
                series_uid,
                whole={uid: instances[uid] for uid in found.proofs},
                because=_proofs_in_words(fresh.values()),
                source=next(iter(fresh.values())).how,
                attempts_max=self._settings.worker.attempts_max,
            ):
                self._log.info("series whole", study_uid=study.study_uid, series=len(fresh))
                break
        self._early |= {(study.id, series_uid): None for series_uid in fresh}
        while len(self._early) > EARLY_KEPT:
            del self._early[next(iter(self._early))]
        return found.look_at

    def _close(self, receiving: ReceivingStudy, decision: Whole | Partial) -> None:
        study = receiving.study
        closed = close_study(
            self._db,
            study.id,
            study.revision,
            how=decision.how if isinstance(decision, Whole) else "timeout",
            partial=isinstance(decision, Partial),
            evidence_text=decision.because,
            attempts_max=self._settings.worker.attempts_max,
        )
        if closed:
            self._log.info(
                "study closed", study_uid=study.study_uid, revision=study.revision, because=decision.because
            )

    def _offer_retired(self) -> None:
        now = time.monotonic()
        if now < self._retired_at:
            return
        self._retired_at = now + RETIRED_SECONDS
        retired = take_retired(self._db, STORE)
        folder = self._spool_folder / STORE
        try:
            gone = gone_for_good(SpoolFiles(), folder, retired)
        except OSError as error:
            self._log.warning("the folder of the spool could not be synced", reason=error.strerror)
            gone = []
        if gone:
            forget_retired(self._db, STORE, gone)
        left = [life for life in retired if life not in gone]
        if left:
            self._link.offer(left)
            if left != self._offered:
                self._log.info("segments may be recycled", segments=len(left))
        self._offered = left


def _proofs_in_words(proofs: Collection[Whole]) -> str:
    words = list(dict.fromkeys(proof.because for proof in proofs))
    shown = "; ".join(words[:3]) + ("; ..." if len(words) > 3 else "")
    return shown if len(proofs) == 1 else f"{len(proofs)} series: {shown}"


def _place(mark: Mark) -> tuple[int, int]:
    return (mark.epoch, mark.offset)


def _yield_to_the_receiver() -> None:
    """Receiving comes first. Linux shares processors out by session, and this process leads one."""
    os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICE))


def main() -> int:
    """Run with the inherited descriptors as arguments and the settings as JSON on standard input."""
    settings = Settings.model_validate_json(sys.stdin.read())
    configure(level=settings.log.level, form=settings.log.form)
    _yield_to_the_receiver()
    socket_fd, memory_fd, bell_fd = (int(argument) for argument in sys.argv[1:4])
    link = RecorderEnd(socket_fd, memory_fd, bell_fd)
    try:
        db = Database.open(settings.database_url)
        try:
            Recorder(settings, db, link).run()
        finally:
            db.close()
    except PrereadError as error:
        logger("recorder").error("the recorder stopped", reason=str(error))
        return 1
    finally:
        link.close()
    return 0


if __name__ == "__main__":
    status = main()
    # Not sys.exit: a thread of pynetdicom that waits for an archive would keep the process.
    os._exit(status)
