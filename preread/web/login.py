"""Logging in and out."""

from starlette.datastructures import FormData, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from config.logs import logger
from preread.web.forms import text_of
from preread.web.guard import COOKIE, set_cookie
from preread.web.passwords import password_hash
from preread.web.site import local_path, render, session_of, site_of
from preread.web.words import span

__all__ = ["log_in", "log_out", "login_page", "password_hash"]

log = logger("web")


def login_page(request: Request) -> Response:
    """The form; whoever needs none goes on."""
    target = local_path(request.query_params.get("next"))
    if not site_of(request).sessions.needs_login or session_of(request).user is not None:
        return RedirectResponse(target, status_code=303)
    return _form(request, target)


def log_in(request: Request, form: FormData) -> Response:
    """Check user and password; a new session with a new id, or the form with a word."""
    site = site_of(request)
    target = local_path(text_of(form, "next", length_max=512))
    if not site.sessions.needs_login:
        return RedirectResponse(target, status_code=303)
    user, password = text_of(form, "user", length_max=64), text_of(form, "password")
    address = request.client.host if request.client else ""
    wait = site.brake.wait_seconds(address, user)
    if wait > 0:
        log.warning("login refused", address=address, why="too many failures")
        refusal = f"Too many failed logins from here. Try again in {span(wait)}."
        answer = _form(request, target, refusal=refusal, status=429)
        answer.headers["Retry-After"] = str(int(wait) + 1)
        return answer
    if not site.sessions.password_fits(user, password):
        site.brake.failed(address, user)
        log.warning("login failed", address=address)
        return _form(request, target, refusal="User and password do not fit.", tried=user, status=403)
    site.brake.succeeded(address, user)
    log.info("logged in", address=address)
    site.sessions.end(session_of(request))
    answer = RedirectResponse(target, status_code=303)
    value = site.sessions.cookie(site.sessions.start(user))
    set_cookie(MutableHeaders(raw=answer.raw_headers), value, secure=request.url.scheme == "https")
    return answer


def log_out(request: Request, form: FormData) -> Response:
    """End the session, also for a copy of its cookie."""
    site_of(request).sessions.end(session_of(request))
    answer = RedirectResponse("/login", status_code=303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
    return answer


def _form(
    request: Request, target: str, *, refusal: str | None = None, tried: str = "", status: int = 200
) -> Response:
    return render(
        request, "login.html", status=status, page_path="/login", next=target, refusal=refusal, tried=tried
    )
