"""Random walks over the real job table: workers claim, crash, come back late; leases end; people interfere.

Whatever happens, a job is done at most once, a fence never repeats, and nothing is lost.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from db import intake, jobs, results
from db.engine import Database
from db.records import Claim, Location, ReceivedInstance, StudyRecord
from db.worklist import study as study_view

LEASE_SECONDS = 60.0
STUDY = "1.2.1"


def _fast_folder() -> Path:
    """In memory where there is such a place: nothing has to survive, and a walk commits hundreds of times."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="preread-simulation-", dir=memory if memory.is_dir() else None))


class JobTable(RuleBasedStateMachine):
    """The table as its users see it, beside the little that must hold."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_750_000_000.0
        self.folder = _fast_folder()
        self.db = Database.open(f"sqlite:///{self.folder / 'preread.db'}", clock=lambda: self.now)
        self.db.migrate()
        at = Location("instances", 1, 1, 4096, 10)
        self.item = ReceivedInstance(
            "1.2.1.1.1", "1.2", STUDY, "1.2.1.1", "1.2", "PACS1", "US", "::1", self.now, at, "00", False, True
        )
        intake.record_batch(self.db, [self.item], None)
        study = self.study
        intake.close_study(self.db, study.id, 1, how="quiet", partial=False, evidence_text="one image")
        self.known = {job.id for job in jobs.list_jobs(self.db)}
        self.done: set[int] = set()
        self.fences: dict[int, int] = {}
        self.lease: dict[int, tuple[int, float]] = {}  # fence and end of the lease as last granted

    @property
    def study(self) -> StudyRecord:
        view = study_view(self.db, STUDY)
        assert view is not None
        return view.study

    @rule(model=st.sampled_from("abcde"), priority=st.integers(0, 2), wait=st.sampled_from([None, 50.0]))
    def enqueue(self, model: str, priority: int, wait: float | None) -> None:
        run_after = None if wait is None else self.now + wait
        self.known.add(
            jobs.enqueue(self.db, "analyse", self.study.id, 1, model, priority=priority, run_after=run_after)
        )

    @rule(target=claims, worker=st.sampled_from(["w1", "w2", "w3"]))
    def claim(self, worker: str) -> Claim | None:
        claim = jobs.claim_next(self.db, worker=worker, lease_seconds=LEASE_SECONDS)
        if claim is None:
            return None
        assert claim.job_id in self.known - self.done
        assert claim.fence > self.fences.get(claim.job_id, 0)
        assert claim.attempts <= claim.attempts_max
        _, lease_until = self.lease.get(claim.job_id, (0, 0.0))
        assert lease_until < self.now, "claimed under a live lease"
        self.fences[claim.job_id] = claim.fence
        self.lease[claim.job_id] = (claim.fence, claim.lease_until)
        return claim

    def _ended(self, claim: Claim, accepted: bool) -> None:
        if accepted:
            assert claim.fence == self.fences[claim.job_id], "an old fence was accepted"
            self.lease.pop(claim.job_id, None)

    @rule(claim=claims, what=st.sampled_from(["finish", "finish", "fail", "give up", "give back", "extend"]))
    def act(self, claim: Claim | None, what: str) -> None:
        """The holder of a claim does something; claims stay, so one thought dead may come back and act again.

        A worker that crashed is one that never acts.
        """
        if claim is None:
            return
        accepted = self._ask(claim, what)
        if not accepted:
            return
        assert claim.fence == self.fences[claim.job_id], f"an old fence was accepted: {what}"
        if what == "extend":
            self.lease[claim.job_id] = (claim.fence, self.now + LEASE_SECONDS)
            return
        self.lease.pop(claim.job_id, None)
        if what == "finish":
            assert claim.job_id not in self.done, "done twice"
            self.done.add(claim.job_id)

    def _ask(self, claim: Claim, what: str) -> bool:
        if what == "extend":
            return jobs.extend(self.db, claim, LEASE_SECONDS)
        if what == "give back":
            return jobs.give_back(self.db, claim)
        if what in ("fail", "give up"):
            return jobs.fail(self.db, claim, error="e", remedy="r", retry=what == "fail")
        return results.commit_analysis(
            self.db,
            claim,
            outcome="analysed",
            reason_code=None,
            sentence=None,
            findings={},
            results=[],
            deliveries=[],
        )

    @rule(seconds=st.sampled_from([31.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reap(self) -> None:
        for job_id in jobs.reap_expired(self.db):
            assert self.lease.pop(job_id)[1] < self.now

    @rule(data=st.data(), cancel=st.booleans())
    def interfere(self, data: st.DataObject, cancel: bool) -> None:
        if self.known:
            job_id = data.draw(st.sampled_from(sorted(self.known)))
            if cancel and jobs.cancel(self.db, job_id):
                assert job_id not in self.done
                self.lease.pop(job_id, None)
            elif not cancel:
                jobs.retry(self.db, job_id)

    @invariant()
    def nothing_is_lost(self) -> None:
        found = {job.id: job.state for job in jobs.list_jobs(self.db)}
        assert set(found) == self.known
        assert {job_id for job_id, state in found.items() if state == "done"} == self.done

    def teardown(self) -> None:
        """Left alone with one worker, every job comes to an end, and so does the study."""
        for _ in range(20 * (len(self.known) + 1)):
            claim = jobs.claim_next(self.db, worker="last", lease_seconds=LEASE_SECONDS)
            if claim is None:
                self.now += 601.0
            else:
                jobs.fail(self.db, claim, error="e", remedy="r")
        ends = {job.state for job in jobs.list_jobs(self.db)}
        assert ends <= {"done", "failed", "cancelled"}
        study = self.study
        assert (study.state, study.outcome is None) == ("done", False)
        self.db.close()
        shutil.rmtree(self.folder)


TestJobTable = JobTable.TestCase
TestJobTable.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
