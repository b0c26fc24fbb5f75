"""What the tests of the durable state share: a clock they set, and studies at any point of their life."""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from db import intake, jobs, results
from db.engine import Database
from db.records import Claim, Location, Mark, NewDelivery, NewResult, ReceivedInstance, StudyRecord
from db.worklist import study as study_view

MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"
NOON = 1_750_000_000.0


class Clock:
    """Seconds since 1970 that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(database_url: str, clock: Clock, open_database: Callable[..., Database]) -> Database:
    """A fresh Database of each kind on the test's clock."""
    return open_database(database_url, clock=clock)


class Received:
    """Makes instances as the listener hands them over, each call another one unless told otherwise."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._numbers = clock, itertools.count(1)
        self._offset = itertools.count(4096, 1000)

    def __call__(
        self,
        *,
        study: str = "1.2.1",
        series: str | None = None,
        sop: str | None = None,
        content: str | None = None,
        epoch: int = 1,
        segment: int = 1,
        offset: int | None = None,
        calling_ae: str = "PACS1",
        own: bool = False,
        is_image: bool = True,
        sop_class: str = MR_CLASS,
        **attributes: str,
    ) -> ReceivedInstance:
        sop = sop or f"{study}.9.{next(self._numbers)}"
        defaults = {"PatientID": "A1", "Modality": "MR", "InstanceNumber": "7"}
        return ReceivedInstance(
            sop_uid=sop,
            sop_class=sop_class,
            study_uid=study,
            series_uid=series or f"{study}.1",
            transfer_syntax="1.2.840.10008.1.2.1",
            calling_ae=calling_ae,
            called_ae="PREREAD",
            address="10.0.0.1",
            received_at=self._clock.now,
            location=Location("instances", segment, epoch, offset or next(self._offset), 900),
            sha256=hashlib.sha256((content or sop).encode()).hexdigest(),
            own=own,
            is_image=is_image,
            attributes={**defaults, **attributes},
        )


@pytest.fixture
def received(clock: Clock) -> Received:
    return Received(clock)


def mark_behind(item: ReceivedInstance) -> Mark:
    at = item.location
    return Mark(at.store, at.segment, at.epoch, at.offset + at.length)


@dataclass
class Life:
    """Brings a study to a point of its life."""

    db: Database
    received: Received

    def study(self, study_uid: str = "1.2.1") -> StudyRecord:
        view = study_view(self.db, study_uid)
        assert view is not None
        return view.study

    def receive(self, study_uid: str = "1.2.1", *, images: int = 2, **options: Any) -> StudyRecord:
        items = [self.received(study=study_uid, **options) for _ in range(images)]
        intake.record_batch(self.db, items, mark_behind(items[-1]))
        return self.study(study_uid)

    def whole(self, study_uid: str = "1.2.1", **options: Any) -> StudyRecord:
        study = self.receive(study_uid, **options)
        assert intake.close_study(
            self.db, study.id, study.revision, how="quiet", partial=False, evidence_text="no image for 30 s"
        )
        return self.study(study_uid)

    def claim(self, worker: str = "cpu1", lease_seconds: float = 60.0) -> Claim:
        claim = jobs.claim_next(self.db, worker=worker, lease_seconds=lease_seconds)
        assert claim is not None
        return claim

    def plan(self, *models: str) -> None:
        claim = self.claim()
        assert claim.kind == "plan"
        assert jobs.finish_plan(
            self.db,
            claim,
            selections=[],
            analyse=[(model, {"series": "1.2.1.1"}) for model in models],
            reason_code=None if models else "NO-MODEL",
            sentence=None if models else "No model wants this study.",
        )

    def analysing(self, study_uid: str = "1.2.1", *models: str) -> Claim:
        """A study whose first analysis is claimed."""
        self.whole(study_uid)
        self.plan(*(models or ("brain",)))
        return self.claim()

    def new_result(self, claim: Claim, kind: str = "SEG", **options: Any) -> NewResult:
        sop_uid = f"2.25.{claim.study_id}.{claim.revision}.{claim.job_id}.{len(kind)}{ord(kind[1])}"
        values: dict[str, Any] = {
            "kind": kind,
            "sop_uid": sop_uid,
            "sop_class": "1.2.840.10008.5.1.4.1.1.66.4",
            "series_uid": f"2.25.{claim.study_id}.{len(kind)}{ord(kind[1])}",
            "location": Location("results-1", 1, 1, 4096 + claim.job_id * 100, 50),
            "sha256": "00",
            "bytes": 50,
        }
        return NewResult(**{**values, **options})

    def commit(
        self,
        claim: Claim,
        *,
        kinds: tuple[str, ...] = ("SEG", "SR"),
        destinations: tuple[str, ...] = (),
        findings: dict[str, Any] | None = None,
        **options: Any,
    ) -> bool:
        made = [self.new_result(claim, kind) for kind in kinds]
        values: dict[str, Any] = {
            "outcome": "analysed",
            "reason_code": None,
            "sentence": None,
            "findings": findings if findings is not None else {"lesions": [], "headline": "no lesion"},
            "results": made,
            "deliveries": [NewDelivery(r.sop_uid, name) for r in made for name in destinations],
            "predecessors": {},
        }
        return results.commit_analysis(self.db, claim, **{**values, **options})


@pytest.fixture
def postgres_life(
    postgres_url: str, clock: Clock, received: Received, open_database: Callable[..., Database]
) -> Life:
    """On Postgres alone."""
    return Life(open_database(postgres_url, clock=clock), received)


@pytest.fixture
def life(db: Database, received: Received) -> Life:
    return Life(db, received)
