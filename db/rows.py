"""From rows to the records that leave `db`, for the other files of this package."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from db import tables
from db.records import (
    ConflictRecord,
    DeliveryRecord,
    EventRecord,
    InstanceRecord,
    JobRecord,
    Location,
    ResultRecord,
    SelectionRecord,
    SeriesRecord,
    StudyRecord,
)

Row = sa.RowMapping | Mapping[str, Any]
T = TypeVar("T")

JOBS = sa.select(tables.JOB, tables.STUDY.c.study_uid).join_from(tables.JOB, tables.STUDY)
INSTANCES = sa.select(tables.INSTANCE, tables.SERIES.c.series_uid).join_from(tables.INSTANCE, tables.SERIES)
RESULTS = sa.select(tables.RESULT, tables.JOB.c.model).join_from(tables.RESULT, tables.JOB)


def aware(seconds: float) -> datetime:
    """A time of the tables as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def aware_or_none(seconds: float | None) -> datetime | None:
    """The same for a column that may be NULL."""
    return None if seconds is None else aware(seconds)


def location(row: Row) -> Location:
    """The location columns of an instance, a conflict or a result."""
    return Location(row["store"], row["segment"], row["epoch"], row["offset"], row["length"])


def study(row: Row) -> StudyRecord:
    """A row of `study`."""
    return StudyRecord(
        id=row["id"],
        study_uid=row["study_uid"],
        revision=row["revision"],
        state=row["state"],
        partial=row["partial"],
        outcome=row["outcome"],
        reason_code=row["reason_code"],
        reason=row["reason"],
        priority=row["priority"],
        source_ae=row["source_ae"],
        patient_id=row["patient_id"],
        patient_name=row["patient_name"],
        birth_date=row["birth_date"],
        sex=row["sex"],
        accession=row["accession"],
        study_date=row["study_date"],
        study_time=row["study_time"],
        description=row["description"],
        modalities=modalities(row["modalities"]),
        body_part=row["body_part"],
        instances=row["instances"],
        received_bytes=row["received_bytes"],
        first_received_at=aware(row["first_received_at"]),
        last_received_at=aware(row["last_received_at"]),
        whole_at=aware_or_none(row["whole_at"]),
        done_at=aware_or_none(row["done_at"]),
    )


def modalities(joined: str) -> tuple[str, ...]:
    """The values of a column joined by backslashes."""
    return tuple(joined.split("\\")) if joined else ()


def series(row: Row) -> SeriesRecord:
    """A row of `series`."""
    return SeriesRecord(
        id=row["id"],
        study_id=row["study_id"],
        series_uid=row["series_uid"],
        modality=row["modality"],
        description=row["description"],
        number=row["number"],
        body_part=row["body_part"],
        instances=row["instances"],
        own=row["own"],
    )


def instance(row: Row) -> InstanceRecord:
    """A row of `INSTANCES`."""
    return InstanceRecord(
        id=row["id"],
        series_id=row["series_id"],
        series_uid=row["series_uid"],
        sop_uid=row["sop_uid"],
        sop_class=row["sop_class"],
        transfer_syntax=row["transfer_syntax"],
        revision=row["revision"],
        instance_number=row["instance_number"],
        received_at=aware(row["received_at"]),
        location=location(row),
        sha256=row["sha256"],
        own=row["own"],
        is_image=row["is_image"],
    )


def conflict(row: Row) -> ConflictRecord:
    """A row of `conflict`."""
    return ConflictRecord(
        id=row["id"],
        study_id=row["study_id"],
        series_uid=row["series_uid"],
        sop_uid=row["sop_uid"],
        calling_ae=row["calling_ae"],
        address=row["address"],
        received_at=aware(row["received_at"]),
        location=location(row),
        sha256=row["sha256"],
    )


def selection(row: Row) -> SelectionRecord:
    """A row of `selection`."""
    return SelectionRecord(
        study_id=row["study_id"],
        revision=row["revision"],
        model=row["model"],
        series_uid=row["series_uid"],
        taken=row["taken"],
        rank=row["rank"],
        code=row["code"],
        sentence=row["sentence"],
    )


def job(row: Row) -> JobRecord:
    """A row of `JOBS`."""
    return JobRecord(
        id=row["id"],
        kind=row["kind"],
        study_id=row["study_id"],
        study_uid=row["study_uid"],
        revision=row["revision"],
        model=model_of(row),
        state=row["state"],
        stage=row["stage"],
        priority=row["priority"],
        run_after=aware_or_none(row["run_after"]),
        attempts=row["attempts"],
        attempts_max=row["attempts_max"],
        fence=row["fence"],
        lease_until=aware_or_none(row["lease_until"]),
        worker=row["worker"],
        outcome=row["outcome"],
        reason_code=row["reason_code"],
        reason=row["reason"],
        error=row["error"],
        remedy=row["remedy"],
        findings=row["findings"],
        parameters=row["parameters"],
        created_at=aware(row["created_at"]),
        started_at=aware_or_none(row["started_at"]),
        done_at=aware_or_none(row["done_at"]),
    )


def model_of(row: Row) -> str | None:
    """The model of a job; None for plans, where the column tells early ones apart (`db.tables`)."""
    return (row["model"] or None) if row["kind"] == "analyse" else None


def job_in_words(job: sa.FromClause) -> sa.ColumnElement[str]:
    """What a job does, for the timeline: an expression over its columns."""
    return sa.case(
        (job.c.kind == tables.written_out("analyse"), tables.written_out("analysis by ") + job.c.model),
        (job.c.model != tables.NOTHING, tables.written_out("planning an early start")),
        else_=tables.written_out("planning"),
    )


def result(row: Row) -> ResultRecord:
    """A row of `RESULTS`."""
    return ResultRecord(
        id=row["id"],
        job_id=row["job_id"],
        study_id=row["study_id"],
        revision=row["revision"],
        model=row["model"] or None,
        kind=row["kind"],
        sop_uid=row["sop_uid"],
        sop_class=row["sop_class"],
        series_uid=row["series_uid"],
        location=location(row),
        sha256=row["sha256"],
        bytes=row["bytes"],
        created_at=aware(row["created_at"]),
        predecessor_sop_uid=row["predecessor_sop_uid"],
    )


def delivery(row: Row) -> DeliveryRecord:
    """A row of `delivery`."""
    return DeliveryRecord(
        id=row["id"],
        result_id=row["result_id"],
        job_id=row["job_id"],
        study_id=row["study_id"],
        destination=row["destination"],
        state=row["state"],
        attempts=row["attempts"],
        next_at=aware_or_none(row["next_at"]),
        last_error=row["last_error"],
        delivered_at=aware_or_none(row["delivered_at"]),
    )


def event(row: Row) -> EventRecord:
    """A row of `event`."""
    return EventRecord(
        id=row["id"],
        at=aware(row["at"]),
        study_id=row["study_id"],
        job_id=row["job_id"],
        kind=row["kind"],
        text=row["text"],
        source=row["source"],
    )
