"""What passes between a worker and the process that reads its studies: values, so that each can die alone.

The worker has the database, the reader has the models; neither has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from db.records import InstanceRecord, ResultKind, ResultRecord, SeriesRecord
from pipeline.reading.refusals import Refusal


@dataclass(frozen=True)
class StudyImages:
    """The rows of one study revision: what came, and where the bytes are.

    Parameters
    ----------
    instances : all but our own results, in any order
    series : all series, those with our own results too
    is_partial : it was closed although images are known or thought to be missing
    """

    study_id: int
    study_uid: str
    revision: int
    instances: tuple[InstanceRecord, ...]
    series: tuple[SeriesRecord, ...]
    is_partial: bool = False


@dataclass(frozen=True)
class PlanAssignment:
    """Find out which model reads which series of a study; `created_at` as for an analysis."""

    study: StudyImages
    created_at: datetime


@dataclass(frozen=True)
class EarlyPlanAssignment:
    """Find out which model can begin while its study still receives.

    `whole` are the Series Instance UIDs that are provably whole; of others `study` holds what came so far.
    """

    study: StudyImages
    whole: frozenset[str]


@dataclass(frozen=True)
class AnalyseAssignment:
    """Read a study with one model.

    Parameters
    ----------
    series_uids : what the plan chose
    created_at : of the job: the clock of its results, so that a repeat makes the same bytes
    predecessors : results of the revision before
    is_early : the study may still receive other series; `study` holds what had come when this was decided
    """

    study: StudyImages
    model: str
    series_uids: tuple[str, ...]
    created_at: datetime
    predecessors: tuple[ResultRecord, ...]
    is_early: bool = False


Assignment = PlanAssignment | EarlyPlanAssignment | AnalyseAssignment


@dataclass(frozen=True)
class SeriesChoice:
    """Why one model takes a series, or why not; without a series: what concerns the whole study."""

    model: str
    series_uid: str | None
    taken: bool
    rank: int | None
    code: str | None
    sentence: str


@dataclass(frozen=True, eq=False)
class WrittenObject:
    """One result object as the bytes of a Part 10 file; a heat map as those of its own form."""

    kind: ResultKind
    sop_uid: str
    sop_class: str
    series_uid: str
    part10: bytes


@dataclass(frozen=True)
class Plan:
    """What a plan led to.

    Parameters
    ----------
    choices : for every series and model
    analyses : (model, series UIDs) to read, best first
    refusal : why there is nothing to read, when there is nothing
    objects : a small report that says so, where the site wants one
    """

    choices: tuple[SeriesChoice, ...]
    analyses: tuple[tuple[str, tuple[str, ...]], ...]
    refusal: Refusal | None
    objects: tuple[WrittenObject, ...] = ()


@dataclass(frozen=True)
class EarlyPlan:
    """Which model begins with which series, as (model, Series Instance UID); often nothing."""

    analyses: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Analysis:
    """What an analysis led to: findings and objects, or a refusal (with a report if the site wants one)."""

    refusal: Refusal | None
    findings: Mapping[str, Any]
    objects: tuple[WrittenObject, ...]


Finished = Plan | EarlyPlan | Analysis


@dataclass(frozen=True)
class Ready:
    """Models are loaded; `refused` names packages that do not run, with the reason."""

    device: str
    models: tuple[str, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """What the job is doing now."""

    name: str


@dataclass(frozen=True)
class Done:
    """The assignment is finished."""

    result: Finished


@dataclass(frozen=True)
class Failed:
    """The assignment failed, for reasons of ours or of the machine; `retry`: another attempt may work."""

    error: str
    remedy: str
    retry: bool


Report = Ready | Stage | Done | Failed
