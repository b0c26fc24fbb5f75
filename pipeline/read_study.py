"""The reading of a study, its stages in order: the page to read first.

A plan chooses series for each model by their headers; an early plan does so while a study still receives, for
models whose series is whole. An analysis reads what was chosen: headers, stack, pixels, prediction, measured
findings, result objects. Every way out is result objects or a coded refusal (law 4); only faults of ours or
of the machine leave as exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from models.explanation.attending import shown_attention
from models.manifest import ModelInput
from models.memory import TooLarge
from models.package import Package
from models.predictor import Prediction, Predictor
from models.preprocess import PreprocessError
from pipeline.assignment import AnalyseAssignment, Analysis, EarlyPlan, Plan, SeriesChoice, StudyImages
from pipeline.reading.early_candidates import early_candidates
from pipeline.reading.refusals import Refusal, refuse
from pipeline.reading.selection import Considered, Selection, select
from pipeline.reading.series_eye import SeriesEye
from pipeline.reading.source_series import SourceSeries
from pipeline.reading.study_series import ReadBytes, series_headers
from pipeline.reading.study_sources import read_images, read_volume, stack_of

# Reasons that no model has a part in.
_OF_THE_OBJECTS: Final = frozenset({"NOT-AN-IMAGE", "OWN-RESULT", "HEADER-UNREADABLE", "TOO-LARGE"})

SetStage = Callable[[str], None]
"""Says what the job is doing, for the page."""
Write = Callable[[Sequence[SourceSeries], Sequence[Prediction]], Analysis]
"""Makes findings and result objects of what was read and predicted."""


def plan_study(
    study: StudyImages, packages: Sequence[Package], read_bytes: ReadBytes, *, eye: SeriesEye | None = None
) -> Plan:
    """Which model reads which series of a study, and why not the others.

    Parameters
    ----------
    eye : looks at series whose headers leave open what they show; None: nobody does
    """
    if not packages:
        return Plan((), (), refuse("NO-PACKAGE"))
    series = series_headers(study, read_bytes)
    manifests = [package.manifest for package in packages]
    if eye is not None:
        series = eye.looked_at(study, manifests, series, read_bytes)
    selections = select(manifests, series)
    choices: list[SeriesChoice] = []
    analyses: list[tuple[str, tuple[str, ...]]] = []
    for package, selection in zip(packages, selections, strict=True):
        judged = _judged_by_stack(package.manifest.inputs[0], selection, study, read_bytes)
        chosen = tuple(choice.series_uid for choice in judged if choice.taken and choice.series_uid)
        # Where every candidate is refused, the best one still goes to the model: its job says why.
        wanted = chosen or tuple(candidate.series_uid for candidate in selection.candidates[:1])
        choices.extend(judged)
        if wanted:
            analyses.append((selection.model, wanted))
    return Plan(tuple(choices), tuple(analyses), None if analyses else _why_nothing(selections))


def plan_early(
    study: StudyImages, whole: frozenset[str], packages: Sequence[Package], read_bytes: ReadBytes
) -> EarlyPlan:
    """Which model has all it needs though its study still receives; `whole` are the series that are."""
    series = series_headers(study, read_bytes)
    selections = select([package.manifest for package in packages], series)
    analyses: list[tuple[str, str]] = []
    for package, selection in zip(packages, selections, strict=True):
        reading = package.manifest.inputs[0]
        for series_uid in early_candidates(reading, selection, whole):
            if not isinstance(stack_of(study, series_uid, reading, read_bytes), Refusal):
                analyses.append((selection.model, series_uid))
                break
    return EarlyPlan(tuple(analyses))


def analyse_study(
    assignment: AnalyseAssignment,
    predictor: Predictor,
    write: Write,
    *,
    read_bytes: ReadBytes,
    stage: SetStage,
    bytes_max: int,
    eye: SeriesEye | None = None,
) -> Analysis:
    """Read the chosen series with one model, up to the bytes of its result objects.

    Parameters
    ----------
    write : makes the objects; a refusal of its own ends the analysis too
    bytes_max : most memory of one volume
    eye : as of `plan_study`; its doubts become notes of the findings
    """
    reading = predictor.package.manifest.inputs[0]
    stage("reading")
    if reading.unit == "image":
        sources = read_images(
            assignment.study,
            assignment.series_uids,
            reading,
            read_bytes,
            bytes_max=bytes_max,
            complete=None if eye is None else eye.completed,
        )
    else:
        (series_uid,) = assignment.series_uids
        sources = read_volume(assignment.study, series_uid, reading, read_bytes, bytes_max=bytes_max)
    if isinstance(sources, Refusal):
        return Analysis(sources, {}, ())
    if eye is not None:
        sources = [eye.noted(source, reading) for source in sources]
    stage("predicting")
    predicted = _predict(sources, predictor)
    if isinstance(predicted, Refusal):
        return Analysis(predicted, {}, ())
    stage("writing")
    return write([source for source, _ in predicted], [prediction for _, prediction in predicted])


def _judged_by_stack(
    reading: ModelInput, selection: Selection, study: StudyImages, read_bytes: ReadBytes
) -> list[SeriesChoice]:
    """The selection with each candidate's stack judged, until one is good; still images are all taken."""
    choices: list[SeriesChoice] = []
    better: str | None = None
    for candidate in selection.considered:
        refusal = candidate.refusal
        if candidate.rank is not None and reading.unit == "series":
            if better is not None:
                refusal = refuse("NOT-PREFERRED", better=better)
            else:
                stack = stack_of(study, candidate.series_uid, reading, read_bytes)
                refusal = stack if isinstance(stack, Refusal) else None
                better = candidate.series_uid if refusal is None else None
        choices.append(_choice(selection.model, candidate, refusal))
    return choices


def _choice(model: str, candidate: Considered, refusal: Refusal | None) -> SeriesChoice:
    sentence = candidate.sentence if refusal is None else f"not taken: {refusal.sentence}"
    code = None if refusal is None else refusal.code
    return SeriesChoice(model, candidate.series_uid, refusal is None, candidate.rank, code, sentence)


def _why_nothing(selections: Sequence[Selection]) -> Refusal:
    """One reason for the whole study: what is wrong with its objects, or the reasons of each model."""
    told = [
        (selection.model, c.refusal) for selection in selections for c in selection.considered if c.refusal
    ]
    # A report beside the images is not why they are not read.
    about_images = [(model, refusal) for model, refusal in told if refusal.code not in _OF_THE_OBJECTS]
    if told and not about_images:
        codes = {refusal.code for _, refusal in told}
        if len(codes) == 1:
            return told[0][1]
        return refuse("NOT-AN-IMAGE", what="The study", kinds="reports, segmentations or damaged objects")
    reasons = dict.fromkeys(f"{model}: {refusal.sentence.rstrip('.')}" for model, refusal in about_images)
    return refuse("NO-MODEL", why="; ".join(list(reasons)[:6]) or "it holds no series")


def _predict(
    sources: Sequence[SourceSeries], predictor: Predictor
) -> list[tuple[SourceSeries, Prediction]] | Refusal:
    """What the model says of each source; a source it cannot take is left out if others remain."""
    predicted: list[tuple[SourceSeries, Prediction]] = []
    refusals: list[Refusal] = []
    model = predictor.package.manifest.id
    for source in sources:
        try:
            prediction = predictor.predict(source.volume)
            likeness = prediction.likeness
            if likeness is not None and likeness.is_refused:
                distance, limit = likeness.distance, likeness.limit
                refusals.append(refuse("UNLIKE-TRAINING", model=model, distance=distance, limit=limit))
            else:
                predicted.append((source, _explained(source, prediction, predictor)))
        except (PreprocessError, TooLarge) as error:
            why = error.what if isinstance(error, TooLarge) else str(error)
            refusals.append(refuse("MODEL-REFUSED", model=model, why=why.rstrip(".")))
    if refusals and predicted:
        # Said with the first image that is left: a report must not pass over images in silence (law 4).
        source, first = predicted[0]
        left_out = f"{len(refusals)} of {len(sources)} images were left out: {refusals[0].sentence}"
        predicted[0] = (source, replace(first, notes=(*first.notes, left_out)))
    return predicted if predicted or not refusals else refusals[0]


def _explained(source: SourceSeries, prediction: Prediction, predictor: Predictor) -> Prediction:
    """The prediction with the heat map of its class, where the package's maps passed their tests."""
    attention = shown_attention(
        predictor.network,
        predictor.device,
        predictor.package.manifest,
        source.volume,
        prediction.class_name,
    )
    return prediction if attention is None else replace(prediction, attention=attention)
