"""PURE from the rows of a study to what its page shows: analyses, lesions, objects, deliveries, reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.records import DeliveryRecord, EventRecord, JobRecord, ResultRecord, SelectionRecord, SeriesRecord
from db.views import StudyView
from models.screen_colours import to_rgb
from pipeline.results.colours import lesion_colour
from pipeline.results.words import length_words, volume_words
from preread.web.cards import Card
from preread.web.words import Sign, delivery_sign, job_sign, plain

KIND_WORDS = {
    "SEG": "segmentation",
    "SR": "structured report",
    "SC": "summary picture",
    "HEAT": "heat map, kept here",
}
NO_CARD_COLOUR = (75.0, 15.0, 60.0)
_NOTHING_IN_CLASS = (None, "normal")


@dataclass(frozen=True)
class LesionLine:
    """One lesion or structure in the list; `sop_uid` and `frame_number` say where its key image is.

    `name` is that of a structure, empty for a lesion; `is_found` is False where it was not outlined.
    """

    number: int
    name: str
    is_found: bool
    measures: tuple[str, ...]
    score: float | None
    sop_uid: str
    frame_number: int | None
    series_id: int | None
    tracking_uid: str
    colour: str


@dataclass(frozen=True)
class ObjectLine:
    """One result object and where it went."""

    result: ResultRecord
    word: str
    deliveries: tuple[tuple[DeliveryRecord, Sign], ...]


@dataclass(frozen=True)
class Attention:
    """The kept heat map of the class, and what must be said with it."""

    result: ResultRecord
    class_name: str
    caption: str


@dataclass(frozen=True)
class Analysis:
    """What one model said about one revision of a study."""

    job: JobRecord
    sign: Sign
    card: Card | None
    headline: str
    lesions: tuple[LesionLine, ...]
    totals: tuple[tuple[str, str], ...]  # of structures: name, volume with its unit
    class_name: str | None
    scores: tuple[tuple[str, float], ...]
    notes: tuple[str, ...]
    urgent: bool
    is_unusual: bool  # unlike the model's training cases
    objects: tuple[ObjectLine, ...]
    attention: Attention | None

    @property
    def has_findings(self) -> bool:
        """Whether there is something to look at; structures are, also when they were not outlined."""
        return bool(self.lesions) or self.class_name not in _NOTHING_IN_CLASS

    @property
    def picture(self) -> ResultRecord | None:
        """The summary picture, when one was made."""
        return next((line.result for line in self.objects if line.result.kind == "SC"), None)


@dataclass(frozen=True)
class SeriesLine:
    """One series and why each model took it or not."""

    series: SeriesRecord
    reasons: tuple[SelectionRecord, ...]

    @property
    def is_taken(self) -> bool:
        """Whether a model read it."""
        return any(reason.taken for reason in self.reasons)


def analyses_of(
    view: StudyView, *, series_of_image: Mapping[str, int], cards: Mapping[str, Card]
) -> tuple[Analysis, ...]:
    """Analyses of a study, the newest revision first.

    Parameters
    ----------
    series_of_image : id of the series by SOP Instance UID
    cards : by id of the model
    """
    jobs = [job for job in view.jobs if job.kind == "analyse"]
    jobs.sort(key=lambda job: (-job.revision, job.id))
    return tuple(_analysis(job, view, series_of_image, cards) for job in jobs)


def _analysis(
    job: JobRecord, view: StudyView, series_of_image: Mapping[str, int], cards: Mapping[str, Card]
) -> Analysis:
    findings: Mapping[str, Any] = job.findings or {}
    mine = [result for result in view.results if result.job_id == job.id]
    scores = sorted((findings.get("scores") or {}).items(), key=lambda item: -float(item[1]))
    return Analysis(
        job=job,
        sign=job_sign(job),
        card=cards.get(job.model or ""),
        headline=plain(findings.get("headline")),
        lesions=tuple(
            _lesion(lesion, series_of_image, cards.get(job.model or "")) for lesion in outlined_of(findings)
        ),
        totals=tuple(
            (plain(total["label"]), "–" if total["volume_ml"] is None else measures_of(total)[0])
            for total in (findings.get("structures") or {}).get("totals") or ()
        ),
        class_name=findings.get("class"),
        scores=tuple((plain(name), float(score)) for name, score in scores),
        notes=tuple(plain(note) for note in findings.get("notes") or ()),
        urgent=bool(findings.get("urgent")),
        is_unusual=bool(findings.get("unusual")),
        objects=tuple(
            ObjectLine(result, KIND_WORDS[result.kind], _deliveries_of(result, view.deliveries))
            for result in mine
        ),
        attention=_attention(findings.get("attention") or {}, mine),
    )


def outlined_of(findings: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Lesions of the findings of a job, and the structures that were looked for, in their order."""
    parts = (findings.get("structures") or {}).get("parts") or ()
    return (*(findings.get("lesions") or ()), *parts)


def _attention(told: Mapping[str, Any], results: Sequence[ResultRecord]) -> Attention | None:
    kept = next((one for one in results if one.kind == "HEAT" and one.sop_uid == told.get("uid")), None)
    return Attention(kept, plain(told.get("class")), plain(told.get("caption"))) if kept else None


def _deliveries_of(
    result: ResultRecord, deliveries: Sequence[DeliveryRecord]
) -> tuple[tuple[DeliveryRecord, Sign], ...]:
    mine = (delivery for delivery in deliveries if delivery.result_id == result.id)
    return tuple((delivery, delivery_sign(delivery.state)) for delivery in mine)


def _lesion(lesion: Mapping[str, Any], series_of_image: Mapping[str, int], card: Card | None) -> LesionLine:
    sop_uid = str(lesion.get("key_sop_uid") or "")
    frame = lesion.get("key_frame")
    number = int(lesion["number"])
    return LesionLine(
        number=number,
        name=plain(lesion.get("label")),
        is_found=bool(lesion.get("found", True)),
        measures=measures_of(lesion),
        score=lesion.get("score"),
        sop_uid=sop_uid,
        frame_number=int(frame) if frame is not None else None,
        series_id=series_of_image.get(sop_uid),
        tracking_uid=str(lesion.get("tracking_uid") or ""),
        # As in SEG, overlay and picture.
        colour="#{:02x}{:02x}{:02x}".format(*to_rgb(_colour(card, number, is_structure="label" in lesion))),
    )


def _colour(card: Card | None, number: int, *, is_structure: bool) -> tuple[float, float, float]:
    segments = card.manifest.findings.segments if card and card.manifest else ()
    if is_structure and number <= len(segments):
        return segments[number - 1].colour
    return lesion_colour(segments[0].colour if segments else NO_CARD_COLOUR, number)


def measures_of(lesion: Mapping[str, Any]) -> tuple[str, ...]:
    """Measurements of a lesion with units, written as in report and picture: size, then the two axes."""
    found = []
    if lesion.get("volume_ml") is not None:
        found.append(f"{volume_words(float(lesion['volume_ml']))} mL")
    elif lesion.get("area_mm2") is not None:
        found.append(f"{float(lesion['area_mm2']):.0f} mm²")
    elif lesion.get("area_px") is not None:
        found.append(f"{int(lesion['area_px'])} px²")
    long, short = lesion.get("long_axis_mm"), lesion.get("short_axis_mm")
    if long is not None:
        axes = [length_words(float(axis)) for axis in (long, short) if axis is not None]
        found.append(f"{' × '.join(axes)} mm")
    return tuple(found)


def series_lines(view: StudyView) -> tuple[SeriesLine, ...]:
    """The images' series of a study with the reasons of its current revision, those taken first."""
    lines = [
        SeriesLine(
            series,
            tuple(
                reason
                for reason in view.selections
                if reason.series_uid == series.series_uid and reason.revision == view.study.revision
            ),
        )
        for series in view.series
        if not series.own
    ]
    number = {line.series.id: line.series.number for line in lines}
    return tuple(
        sorted(lines, key=lambda line: (not line.is_taken, number[line.series.id] or 0, line.series.id))
    )


def study_reasons(view: StudyView) -> tuple[SelectionRecord, ...]:
    """Reasons that concern the whole study, of its current revision."""
    return tuple(
        reason
        for reason in view.selections
        if reason.series_uid is None and reason.revision == view.study.revision
    )


def days_of(events: Sequence[EventRecord]) -> tuple[tuple[str, tuple[EventRecord, ...]], ...]:
    """The timeline by days of the node's own zone, oldest first."""
    days: dict[str, list[EventRecord]] = {}
    for event in events:
        days.setdefault(event.at.astimezone().strftime("%A %-d %B %Y"), []).append(event)
    return tuple((day, tuple(lines)) for day, lines in days.items())
