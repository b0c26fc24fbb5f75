"""Frozen dataclasses that leave `db` instead of rows.

Times are aware UTC datetimes, except where a caller computes with them beside a clock of its own
(`received_at`, `lease_until`, the times of `ReceivingStudy`): those are seconds since 1970, as in the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

JobKind = Literal["plan", "analyse"]
ResultKind = Literal["SEG", "SR", "SC", "HEAT"]
StudyState = Literal["receiving", "whole", "analysing", "done"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
DeliveryState = Literal["queued", "sending", "delivered", "parked", "dropped"]
Outcome = Literal["delivered", "not_analysed", "failed"]
NoticeKind = Literal["ian", "mpps", "ups"]
NoticeState = Literal[
    "in_progress",
    "completed",
    "discontinued",
    "available",
    "input_ready",
    "input_unlisted",
    "input_incomplete",
    "input_unavailable",
    "canceled",
]

Segment = tuple[str, int, int]  # store, segment number, epoch


@dataclass(frozen=True, slots=True)
class Location:
    """Where the bytes of one object lie: `db.spool` writes it, rows keep it.

    `store` is "instances" or "results-<n>"; `segment` a file number; `epoch` counts the openings of segments
    of the store, so it tells a recycled segment from its former life; `offset` is that of the record in the
    segment; `length` that of its payload (the dataset), in bytes.
    """

    store: str
    segment: int
    epoch: int
    offset: int
    length: int

    @property
    def owner(self) -> Segment:
        """The segment life that holds the bytes."""
        return (self.store, self.segment, self.epoch)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a store's log was applied to the tables: replay starts here."""

    store: str
    segment: int
    epoch: int
    offset: int


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """One durable instance on its way into the tables.

    `attributes` holds decoded DICOM keywords as far as present; the keywords used are in `db.intake`.
    `own`: made by preread (an echo). `is_image`: may be a model's input, so it opens a revision when late.
    `sha256` of the dataset may be empty: then it is made later.
    """

    sop_uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    transfer_syntax: str
    calling_ae: str
    called_ae: str
    address: str
    received_at: float
    location: Location
    sha256: str
    own: bool
    is_image: bool
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReceivedNotice:
    """One durable notice (MPPS, instance availability, UPS) on its way into the tables, or out of them.

    `study_uid` is empty where the message does not say which study it is about; `named` are the SOP Instance
    UIDs it states, by Series Instance UID.
    """

    kind: NoticeKind
    state: NoticeState
    sop_uid: str
    study_uid: str
    source_ae: str
    address: str
    received_at: float
    named: Mapping[str, tuple[str, ...]]


class Finding(StrEnum):
    """What became of one instance whose commitment was asked for; a request's outcome is a string of them."""

    HELD = "0"
    MISSING = "1"
    OTHER_CLASS = "2"


@dataclass(frozen=True, slots=True)
class AskedCommitment:
    """One durable request for storage commitment on its way into the tables.

    `token` names the request in this node; `references` are (SOP Class UID, SOP Instance UID).
    """

    token: str
    source_ae: str
    address: str
    transaction_uid: str
    references: tuple[tuple[str, str], ...]
    received_at: float


@dataclass(frozen=True, slots=True)
class JudgedCommitment:
    """A request that was judged and is to be reported; `outcome` has a `Finding` per reference."""

    token: str
    source_ae: str
    address: str
    transaction_uid: str
    references: tuple[tuple[str, str], ...]
    outcome: str
    attempts: int
    is_parked: bool
    last_error: str


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What `db.intake.record_batch` found: instances new, sent again with the same bytes, with others."""

    new: int
    repeated: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """One study and the life of its current revision."""

    id: int
    study_uid: str
    revision: int
    state: StudyState
    partial: bool
    outcome: Outcome | None
    reason_code: str | None
    reason: str | None
    priority: int
    source_ae: str
    patient_id: str
    patient_name: str
    birth_date: str
    sex: str
    accession: str
    study_date: str
    study_time: str
    description: str
    modalities: tuple[str, ...]
    body_part: str
    instances: int
    received_bytes: int
    first_received_at: datetime
    last_received_at: datetime
    whole_at: datetime | None
    done_at: datetime | None


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """One series of a study; `own`: it holds our results that came back."""

    id: int
    study_id: int
    series_uid: str
    modality: str
    description: str
    number: int | None
    body_part: str
    instances: int
    own: bool


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """One instance, the revision it came with and where its bytes are."""

    id: int
    series_id: int
    series_uid: str
    sop_uid: str
    sop_class: str
    transfer_syntax: str
    revision: int
    instance_number: int | None
    received_at: datetime
    location: Location
    sha256: str
    own: bool
    is_image: bool


@dataclass(frozen=True, slots=True)
class ConflictRecord:
    """Other bytes under a SOP Instance UID that was there already; kept aside, never read by a model."""

    id: int
    study_id: int
    series_uid: str
    sop_uid: str
    calling_ae: str
    address: str
    received_at: datetime
    location: Location
    sha256: str


class ReceivingSeries(NamedTuple):
    """What completeness needs to know of one series; the time in seconds since 1970."""

    series_uid: str
    modality: str
    instances: int
    last_received_at: float


@dataclass(frozen=True, slots=True)
class ReceivingStudy:
    """A study that still receives; times in seconds since 1970, our own results left out.

    `first_received_at` is that of the revision: a late image has as much time as the first one had.
    """

    study: StudyRecord
    series: tuple[ReceivingSeries, ...]
    source_ae: str
    first_received_at: float
    last_received_at: float


@dataclass(frozen=True, slots=True)
class StudyPause:
    """The longest pause between two instances of a closed study, in seconds."""

    source_ae: str
    modalities: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class SelectionRecord:
    """Why a model takes a series, or why not.

    `series_uid` and `rank` are None for what concerns the whole study.
    """

    study_id: int
    revision: int
    model: str
    series_uid: str | None
    taken: bool
    rank: int | None
    code: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one job until `lease_until` (seconds since 1970, the database's clock).

    `fence` is larger with each claim of the job: a write with an older one changes nothing.
    """

    job_id: int
    kind: JobKind
    study_id: int
    study_uid: str
    revision: int
    model: str | None
    attempts: int
    attempts_max: int
    fence: int
    lease_until: float
    priority: int
    parameters: Mapping[str, Any]
    worker: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job. `findings` is the JSON described in `db.results`."""

    id: int
    kind: JobKind
    study_id: int
    study_uid: str
    revision: int
    model: str | None
    state: JobState
    stage: str | None
    priority: int
    run_after: datetime | None
    attempts: int
    attempts_max: int
    fence: int
    lease_until: datetime | None
    worker: str | None
    outcome: Literal["planned", "analysed", "not_analysed"] | None
    reason_code: str | None
    reason: str | None
    error: str | None
    remedy: str | None
    findings: Mapping[str, Any] | None
    parameters: Mapping[str, Any]
    created_at: datetime
    started_at: datetime | None
    done_at: datetime | None

    @property
    def is_early_plan(self) -> bool:
        """Whether it plans for a study that still receives."""
        return self.kind == "plan" and "early" in self.parameters


class JobSoFar(NamedTuple):
    """As much of a job as decides what its study shows and how it ends."""

    kind: str
    model: str | None
    state: str
    outcome: str | None
    reason_code: str | None
    reason: str | None
    error: str | None
    remedy: str | None
    parameters: Mapping[str, Any]
    findings: Mapping[str, Any] | None
    has_deliveries: bool

    @property
    def is_early_plan(self) -> bool:
        """As in `JobRecord`."""
        return self.kind == "plan" and "early" in self.parameters


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """One result object, kept as the bytes that are sent."""

    id: int
    job_id: int
    study_id: int
    revision: int
    model: str | None
    kind: ResultKind
    sop_uid: str
    sop_class: str
    series_uid: str
    location: Location
    sha256: str
    bytes: int
    created_at: datetime
    predecessor_sop_uid: str | None


@dataclass(frozen=True, slots=True)
class NewResult:
    """A result object whose bytes are durable and that is about to be recorded."""

    kind: ResultKind
    sop_uid: str
    sop_class: str
    series_uid: str
    location: Location
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A result object (by SOP Instance UID) that shall reach a destination (by name of the peer)."""

    sop_uid: str
    destination: str


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """The right to send one object until `lease_until`; fenced like a job's."""

    delivery_id: int
    fence: int
    destination: str
    result: ResultRecord
    attempts: int
    study_uid: str
    lease_until: float


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One object on its way to one destination."""

    id: int
    result_id: int
    job_id: int
    study_id: int
    destination: str
    state: DeliveryState
    attempts: int
    next_at: datetime | None
    last_error: str | None
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One line of the timeline."""

    id: int
    at: datetime
    study_id: int | None
    job_id: int | None
    kind: str
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class RefusedAssociation:
    """Associations refused alike, with the setting that would allow them in `remedy`."""

    calling_ae: str
    called_ae: str
    address: str
    reason: str
    remedy: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A process of ours that is alive; `seen_at` is set by the database."""

    name: str
    pid: int
    host: str
    device: str
    stage: str | None = None
    job_id: int | None = None
    memory_bytes: int = 0
    models: tuple[str, ...] = ()
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FinishedStudy:
    """A study that retention may drop."""

    study_id: int
    study_uid: str
    done_at: datetime
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A row that still points into a segment, for moving its bytes forward."""

    kind: Literal["instance", "conflict", "result"]
    id: int
    location: Location
