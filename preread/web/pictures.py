"""Slices, overlays, summary pictures and the objects themselves, as bytes over HTTP."""

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from pydicom import dcmread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from config.errors import PrereadError
from db.records import ResultRecord
from db.views import StudyView
from pipeline.reading.refusals import Refusal
from pipeline.results.heat_map import decode
from preread.web.overlay import SegmentMask, overlay_png
from preread.web.site import Site, look_of, number_in, render, site_of
from preread.web.slices import SeriesSlices, SliceRef, heat_png, png, slice_png
from preread.web.study import images_of, view_of
from preread.web.views import outlined_of

WINDOW_MAX = 1e9


def viewer(request: Request) -> Response:
    """The part of a study page that shows one series."""
    site, view = site_of(request), view_of(request)
    segmentations = _segmentations(view)
    try:
        slices = _series(request, site, view)
        drawn = {key for result in segmentations for key in site.segmentations.read(result)}
    except PrereadError as error:  # bytes that are gone; the rest of the page still tells what was found
        return render(request, "_viewer_trouble.html", sentence=error.what, remedy=error.remedy)
    if isinstance(slices, Refusal):
        return render(request, "_viewer_trouble.html", sentence=slices.sentence, remedy=slices.remedy)
    marks = [index for index, ref in enumerate(slices.slices) if _has(drawn, ref)]
    keys = {}
    for job in view.jobs:
        for lesion in outlined_of(job.findings or {}):
            sop_uid, frame = str(lesion.get("key_sop_uid") or ""), lesion.get("key_frame")
            index = slices.index_of(sop_uid, frame)
            if index is not None:
                keys[f"{sop_uid}|{frame or ''}"] = index
    asked = f"{request.query_params.get('image', '')}|{request.query_params.get('frame', '')}"
    first = next(iter(keys.values()), marks[len(marks) // 2] if marks else len(slices.slices) // 2)
    return render(
        request,
        "_viewer.html",
        study_id=view.study.id,
        series_id=request.path_params["series_id"],
        slices=slices,
        marks=marks,
        keys=keys,
        start=keys.get(asked, first),
        has_segmentation=bool(segmentations),
        things=_things(view),
    )


def slice_picture(request: Request) -> Response:
    """One slice at a window (query: center, width; the series' own without)."""
    site, view = site_of(request), view_of(request)
    slices, ref = _slice(request, site, view)
    plane = site.slices.plane(ref)
    if isinstance(plane, Refusal):
        return _trouble(plane)
    center = _number(request, "center", slices.center)
    width = max(_number(request, "width", slices.width), 1e-6)
    return Response(slice_png(plane, center=center, width=width), media_type="image/png")


def overlay_picture(request: Request) -> Response:
    """The lesions on one slice, transparent elsewhere (query: fill=1 for areas)."""
    site, view = site_of(request), view_of(request)
    slices, ref = _slice(request, site, view)
    numbers = _lesion_numbers(view)
    lesions: list[tuple[int, SegmentMask]] = []
    shape = (slices.rows, slices.columns)
    for result in _segmentations(view):
        for segment in _masks_on(site.segmentations.read(result), ref):
            lesions.append((numbers.get(segment.tracking_uid, segment.segment_number), segment))
            shape = segment.shape
    lesions.sort(key=lambda item: item[0])
    return Response(
        overlay_png(lesions, shape=shape, filled=request.query_params.get("fill") == "1"),
        media_type="image/png",
    )


def summary_picture(request: Request) -> Response:
    """A Secondary Capture as it was sent; it shows the patient's name, so not while identities are hidden."""
    if look_of(request).hides_identities:
        raise HTTPException(
            403, "Identities are hidden on this screen, and the picture carries the patient's name."
        )
    site = site_of(request)
    result = _result(request, view_of(request))
    if result.kind != "SC":
        raise HTTPException(404, "This object is no picture.")
    capture = dcmread(io.BytesIO(site.store.read(result.location)))
    pixels = np.asarray(capture.pixel_array)
    return Response(png(Image.fromarray(pixels)), media_type="image/png")


def attention_picture(request: Request) -> Response:
    """The strongest slice of a kept heat map, the heat over the image at its own window."""
    site, view = site_of(request), view_of(request)
    result = _result(request, view)
    if result.kind != "HEAT":
        raise HTTPException(404, "This object is no heat map.")
    kept = decode(site.store.read(result.location))
    index = kept.strongest_slice
    sop_uid, frame_number = kept.places[index]
    images = images_of(site, view)
    shown = next((image for image in images if image.sop_uid == sop_uid), None)
    if shown is None:
        raise HTTPException(404, "The image under this heat map is not here any more.")
    slices = site.slices.series([image for image in images if image.series_id == shown.series_id])
    place = None if isinstance(slices, Refusal) else slices.index_of(sop_uid, frame_number)
    if isinstance(slices, Refusal) or place is None:
        raise HTTPException(404, "The image under this heat map cannot be shown.")
    plane = site.slices.plane(slices.slices[place])
    if isinstance(plane, Refusal):
        return _trouble(plane)
    picture = heat_png(
        plane, kept.heat[index], center=slices.center, width=slices.width, aspect=slices.aspect
    )
    return Response(picture, media_type="image/png")


def kept_heat_map(request: Request) -> Response:
    """A heat map with its geometry, as pipeline.results.heat_map describes the file."""
    site, view = site_of(request), view_of(request)
    result = _result(request, view)
    if result.kind != "HEAT":
        raise HTTPException(404, "This object is no heat map.")
    return _download(site, view, result, "application/octet-stream", "npz")


def result_object(request: Request) -> Response:
    """A result as the DICOM file that was sent; the name of the file says what it is, not who."""
    site, view = site_of(request), view_of(request)
    result = _result(request, view)
    if result.kind == "HEAT":
        raise HTTPException(404, "A heat map is no DICOM object.")
    return _download(site, view, result, "application/dicom", "dcm")


def _download(site: Site, view: StudyView, result: ResultRecord, media_type: str, ending: str) -> Response:
    name = f"study-{view.study.id}-{result.kind.lower()}-{result.id}.{ending}"
    return Response(
        site.store.read(result.location),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _series(request: Request, site: Site, view: StudyView) -> SeriesSlices | Refusal:
    series_id = number_in(request, "series_id")
    instances = [image for image in images_of(site, view) if image.series_id == series_id]
    if not instances:
        raise HTTPException(404, "This study has no such series.")
    return site.slices.series(instances)


def _slice(request: Request, site: Site, view: StudyView) -> tuple[SeriesSlices, SliceRef]:
    slices = _series(request, site, view)
    index = number_in(request, "index")
    if isinstance(slices, Refusal) or index >= len(slices.slices):
        raise HTTPException(404, "This series has no such slice.")
    return slices, slices.slices[index]


def _result(request: Request, view: StudyView) -> ResultRecord:
    wanted = number_in(request, "result_id")
    found = next((result for result in view.results if result.id == wanted), None)
    if found is None:
        raise HTTPException(404, "This study has no such object.")
    return found


def _segmentations(view: StudyView) -> list[ResultRecord]:
    """SEG objects that speak for the study now: of each model those of its newest revision."""
    newest: dict[str | None, int] = {}
    for result in view.results:
        newest[result.model] = max(result.revision, newest.get(result.model, 0))
    return [r for r in view.results if r.kind == "SEG" and r.revision == newest[r.model]]


def _things(view: StudyView) -> str:
    """What is outlined in a study, in a word."""
    kinds = {
        "structures" if (job.findings or {}).get("structures") else "lesions"
        for job in view.jobs
        if job.findings
    }
    return kinds.pop() if len(kinds) == 1 else "outlines"


def _lesion_numbers(view: StudyView) -> Mapping[str, int]:
    """Number of a lesion as the findings list it, by tracking UID: segments are numbered per object."""
    return {
        str(lesion["tracking_uid"]): int(lesion["number"])
        for job in view.jobs
        for lesion in outlined_of(job.findings or {})
        if lesion.get("tracking_uid")
    }


def _has(drawn: set[tuple[str, int | None]], ref: SliceRef) -> bool:
    return ref.key in drawn or (ref.instance.sop_uid, None) in drawn


def _masks_on(segmentation: Mapping[Any, tuple[SegmentMask, ...]], ref: SliceRef) -> tuple[SegmentMask, ...]:
    sop_uid, frame_number = ref.key
    whole = segmentation.get((sop_uid, None), ())
    return whole if frame_number is None else (*segmentation.get((sop_uid, frame_number), ()), *whole)


def _number(request: Request, name: str, otherwise: float) -> float:
    try:
        value = float(request.query_params[name])
    except (KeyError, ValueError):
        return otherwise
    return value if math.isfinite(value) and abs(value) < WINDOW_MAX else otherwise


def _trouble(refusal: Refusal) -> Response:
    return PlainTextResponse(f"{refusal.sentence}. {refusal.remedy}\n", status_code=422)
