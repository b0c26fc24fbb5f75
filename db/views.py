"""Frozen dataclasses that `db.worklist` hands to the page and the command line, one per screen."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from db.records import (
    ConflictRecord,
    DeliveryRecord,
    EventRecord,
    JobRecord,
    RefusedAssociation,
    ResultKind,
    ResultRecord,
    SelectionRecord,
    SeriesRecord,
    StudyRecord,
    WorkerRecord,
)


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """One line of the worklist."""

    study: StudyRecord
    headline: str
    urgent: bool
    has_findings: bool
    score: float | None
    models: tuple[str, ...]
    stage: str | None
    conflicts: int
    delivered: int
    deliveries: int
    destinations: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class StudyView:
    """Everything the rows say about one study, of all its revisions."""

    study: StudyRecord
    series: tuple[SeriesRecord, ...]
    selections: tuple[SelectionRecord, ...]
    jobs: tuple[JobRecord, ...]
    results: tuple[ResultRecord, ...]
    deliveries: tuple[DeliveryRecord, ...]
    events: tuple[EventRecord, ...]
    conflicts: tuple[ConflictRecord, ...]


@dataclass(frozen=True, slots=True)
class ParkedDelivery:
    """A delivery that needs a person, with what it carries."""

    delivery: DeliveryRecord
    study_uid: str
    kind: ResultKind
    model: str | None


@dataclass(frozen=True, slots=True)
class QueueView:
    """What runs, what waits and why, what is parked, and who works."""

    running: tuple[JobRecord, ...]
    waiting: tuple[JobRecord, ...]
    waiting_count: int
    failed: tuple[JobRecord, ...]
    parked: tuple[ParkedDelivery, ...]
    sending: tuple[ParkedDelivery, ...]
    sending_count: int
    workers: tuple[WorkerRecord, ...]


@dataclass(frozen=True, slots=True)
class PeerActivity:
    """What one calling AE title sent: of the studies that are still here."""

    source_ae: str
    studies: int
    last_received_at: datetime
    received_last_day: int


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What the database knows for the Node page."""

    dialect: Literal["sqlite", "postgresql"]
    database_version: str
    schema_revision: str
    schema_is_current: bool
    peers: tuple[PeerActivity, ...]
    refused: tuple[RefusedAssociation, ...]
    workers: tuple[WorkerRecord, ...]
    studies: int
    instances: int
    stored_bytes: int
    queued: int
    running: int
    failed: int
    deliveries_queued: int
    deliveries_parked: int
    oldest_queued_at: datetime | None
