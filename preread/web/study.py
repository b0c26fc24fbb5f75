"""The study page: what was found, in which series, what was sent where, and everything that happened."""

from collections.abc import Callable, Sequence
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from db.instances import instances_of
from db.records import InstanceRecord, SeriesRecord, StudyRecord
from db.views import StudyView
from db.worklist import study as study_rows
from db.worklist import study_uid_of
from pipeline.reading.refusals import REASONS
from preread.web import views, words
from preread.web.forms import text_of
from preread.web.site import Site, live, number_in, page, site_of


def study(request: Request) -> Response:
    """One study: slices, findings, series, objects, timeline."""
    site = site_of(request)
    view = view_of(request)
    viewable = images_series(site, view)
    part = _study_part(site, view)
    marked_series = {lesion.series_id for analysis in part["analyses"] for lesion in analysis.lesions}
    shown = _shown_series(request, view, viewable, marked_series)
    start = "&".join(
        f"{name}={value}"
        for name in ("image", "frame")
        if (value := request.query_params.get(name, "")) and set(value) <= set("0123456789.")
    )
    return page(
        request,
        "study.html",
        "Study",
        part="_study.html",
        viewable=viewable,
        shown=shown,
        start=start,
        marked_series=marked_series,
        can_send=any(delivery.job_id in _jobs_now(view) for delivery in view.deliveries),
        **part,
    )


def live_study(request: Request, form: FormData) -> Response:
    """What is said about a study again; the whole page once its state changed, for the slices to follow."""
    site = site_of(request)
    view = view_of(request)
    part = _study_part(site, view)
    if text_of(form, "state") != part["state"]:
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    part["page_path"] = f"/studies/{view.study.id}"
    return live(request, "_study.html", seen=text_of(form, "seen"), **part)


def view_of(request: Request) -> StudyView:
    """The study of the path.

    Raises
    ------
    HTTPException
        It is not here (404).
    """
    db = site_of(request).db
    study_uid = study_uid_of(db, number_in(request, "study_id"))
    found = study_rows(db, study_uid) if study_uid is not None else None
    if found is None:
        raise HTTPException(404, "This study is not here. Finished studies are dropped after some days.")
    return found


def images_series(site: Site, view: StudyView) -> list[SeriesRecord]:
    """Series of a study that hold images, in the order of their numbers."""
    held = {instance.series_id for instance in images_of(site, view)}
    series = [line for line in view.series if line.id in held]
    return sorted(series, key=lambda line: (line.number if line.number is not None else 1 << 30, line.id))


def images_of(site: Site, view: StudyView) -> list[InstanceRecord]:
    """Images of a study, without reports, segmentations and our own results."""
    return [instance for instance in instances_of(site.db, view.study.id) if instance.is_image]


def _jobs_now(view: StudyView) -> set[int]:
    return {job.id for job in view.jobs if job.revision == view.study.revision}


def _shown_series(
    request: Request, view: StudyView, viewable: Sequence[SeriesRecord], marked_series: set[int | None]
) -> SeriesRecord | None:
    """The series asked for; else one with findings, one that a model read, the first."""
    asked = request.query_params.get("series", "")
    read = {str(job.findings.get("series_uid")) for job in view.jobs if job.findings}
    taken = {reason.series_uid for reason in view.selections if reason.taken}
    wishes: tuple[Callable[[SeriesRecord], bool], ...] = (
        lambda s: str(s.id) == asked,
        lambda s: s.id in marked_series,
        lambda s: s.series_uid in read,
        lambda s: s.series_uid in taken,
        lambda s: True,
    )
    for fits in wishes:
        found = next((series for series in viewable if fits(series)), None)
        if found is not None:
            return found
    return None


def _study_part(site: Site, view: StudyView) -> dict[str, Any]:
    series_of_image = {image.sop_uid: image.series_id for image in images_of(site, view)}
    # Of two packages with one id the one that runs speaks; it stands first.
    cards = {card.manifest.id: card for card in reversed(site.shelf.cards()) if card.manifest}
    analyses = views.analyses_of(view, series_of_image=series_of_image, cards=cards)
    now = [analysis for analysis in analyses if analysis.job.revision == view.study.revision]
    urgent = any(analysis.urgent for analysis in now)
    found = any(analysis.has_findings for analysis in now)
    headline = "; ".join(a.headline for a in now if a.headline and a.job.outcome == "analysed")
    study, stage = view.study, next((job.stage for job in view.jobs if job.state == "running"), None)
    last = study.done_at
    return {
        "study": study,
        "study_sign": words.study_sign(study, urgent=urgent, has_findings=found),
        "headline": headline,
        "sentence": words.study_sentence(study, stage=stage).removeprefix("not analysed: "),
        "remedy": _remedy(study),
        "seconds": (last - study.last_received_at).total_seconds() if last else None,
        "is_done": study.state == "done",
        "state": f"{study.revision}-{study.state}",
        "analyses": analyses,
        "series": views.series_lines(view),
        "reasons": views.study_reasons(view),
        "conflicts": view.conflicts,
        "days": views.days_of(view.events),
    }


def _remedy(study: StudyRecord) -> str | None:
    """What a person can do; the sentence of a failed job ends with its own remedy."""
    if study.reason_code == "DELIVERY-PARKED":
        return "Correct the peer or its entry in the settings, then send again, here or on the Queue page."
    known = REASONS.get(study.reason_code or "")
    return known.remedy if known and study.outcome == "not_analysed" else None
