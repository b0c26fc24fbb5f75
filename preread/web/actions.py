"""What a person asks for on the page; each handler runs behind `forms.posted` and changes one thing."""

from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from db.closing import requeue_study
from db.requests import cancel, drop_delivery, retry, retry_delivery, send_again
from db.worklist import queue
from preread.doctor import check_peers
from preread.web.forms import text_of
from preread.web.site import (
    VIEW_COOKIE,
    VIEW_SECONDS,
    Look,
    local_path,
    look_of,
    number_in,
    render,
    session_of,
    site_of,
)
from preread.web.study import view_of
from preread.web.upkeep import node_page


def change_look(request: Request, form: FormData) -> Response:
    """Hide or show identities, light or dark, for this browser."""
    now = look_of(request)
    hide, light = text_of(form, "hide"), text_of(form, "light")
    chosen = Look(
        hides_identities=hide == "1" if hide else now.hides_identities,
        is_light=light == "1" if light else now.is_light,
    )
    answer = _back(form, "/")
    answer.set_cookie(
        VIEW_COOKIE,
        chosen.cookie,
        max_age=VIEW_SECONDS,
        path="/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


def analyse_again(request: Request, form: FormData) -> Response:
    """The study as its next revision, of the same images."""
    study = view_of(request).study
    if requeue_study(site_of(request).db, study.study_uid, source=_asker(request)) is None:
        raise HTTPException(
            409, "The study still receives images; it is analysed by itself when it is whole."
        )
    return _back(form, f"/studies/{study.id}")


def send_results_again(request: Request, form: FormData) -> Response:
    """Every result of the current revision to its destinations."""
    study = view_of(request).study
    send_again(site_of(request).db, study.study_uid, source=_asker(request))
    return _back(form, f"/studies/{study.id}")


def retry_job(request: Request, form: FormData) -> Response:
    """A failed or cancelled job with all its attempts."""
    retry(site_of(request).db, number_in(request, "job_id"), source=_asker(request))
    return _back(form, "/queue")


def cancel_job(request: Request, form: FormData) -> Response:
    """A job that waits or runs."""
    cancel(site_of(request).db, number_in(request, "job_id"), source=_asker(request))
    return _back(form, "/queue")


def retry_one_delivery(request: Request, form: FormData) -> Response:
    """A parked, dropped or delivered object once more."""
    retry_delivery(site_of(request).db, number_in(request, "delivery_id"), source=_asker(request))
    return _back(form, "/queue")


def retry_parked(request: Request, form: FormData) -> Response:
    """Every delivery that is parked, as after a peer came back."""
    db = site_of(request).db
    for item in queue(db).parked:
        retry_delivery(db, item.delivery.id, source=_asker(request))
    return _back(form, "/queue")


def drop_one_delivery(request: Request, form: FormData) -> Response:
    """Give a delivery up; the object stays here."""
    drop_delivery(site_of(request).db, number_in(request, "delivery_id"), source=_asker(request))
    return _back(form, "/queue")


def call_peers(request: Request, form: FormData) -> Response:
    """C-ECHO to every peer, now."""
    echoes = list(check_peers(site_of(request).settings))
    if request.headers.get("hx-request"):
        return render(request, "_echo.html", echoes=echoes)
    return node_page(request, echoes)


def _asker(request: Request) -> str:
    """Who asked, for the timeline."""
    return session_of(request).user or "person"


def _back(form: FormData, otherwise: str) -> RedirectResponse:
    """To the page the form stood on."""
    target = text_of(form, "next", length_max=512) or otherwise
    path = local_path(target)
    query = [(name, value) for name, value in parse_qsl(urlsplit(target).query) if name in _KEPT_IN_ADDRESS]
    return RedirectResponse(path + (f"?{urlencode(query)}" if query else ""), status_code=303)


_KEPT_IN_ADDRESS = ("chip", "period", "series")
