"""What every request passes before a page sees it: host, login and origin; and what every answer carries.

An ASGI layer without decisions about content. Another site's script can neither read a page (host check
against DNS rebinding, login, same-origin headers) nor change anything (origin check here, token in `forms`).
"""

import ipaddress
from pathlib import Path
from traceback import extract_tb
from urllib.parse import quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.logs import logger
from preread.web.sessions import Session, Sessions

log = logger("web")

COOKIE = "preread-session"
_OPEN = ("/static/", "/healthz", "/metrics", "/login")
_SAFE_METHODS = ("GET", "HEAD")
_POLLS = "/live/"
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: a browser then sends "Origin: null" with a form, and the origin check would refuse it.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def is_loopback_name(host_header: str) -> bool:
    """Whether a Host header names this machine itself, port aside."""
    try:
        name = urlsplit(f"//{host_header}").hostname
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False


def is_open(path: str) -> bool:
    """Whether a path is shown without a login: nothing of a patient stands there."""
    return any(path == prefix or (prefix.endswith("/") and path.startswith(prefix)) for prefix in _OPEN)


class Guard:
    """Layer around the application.

    Parameters
    ----------
    app : what answers
    sessions : reads and signs the cookie; says whether a login is needed
    """

    def __init__(self, app: ASGIApp, *, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        found = self._sessions.read(request.cookies.get(COOKIE))
        session = found or self._sessions.start()
        scope.setdefault("state", {})["session"] = session
        is_static = request.url.path.startswith("/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-cache" if is_static else "no-store")
                if self._wants_cookie(request, found, headers):
                    set_cookie(headers, self._sessions.cookie(session), secure=request.url.scheme == "https")
            await send(message)

        refusal = self._refusal(request, session)
        try:
            await (refusal or self._app)(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 the edge of a request
            # Answered already. Only the places are logged: the text of an exception may quote a patient.
            places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in extract_tb(error.__traceback__)]
            log.error("request broke", kind=type(error).__name__, at=places[-8:])

    def _refusal(self, request: Request, session: Session) -> Response | None:
        host = request.headers.get("host", "")
        # With a login the cookie is bound to the name, and a rebound name has none; without, the name is all.
        if not self._sessions.needs_login and not is_loopback_name(host):
            return PlainTextResponse(
                "This page answers to localhost only while no login is configured. Open it as "
                "http://127.0.0.1, or add web.logins to the settings.\n",
                status_code=421,
            )
        if request.method not in _SAFE_METHODS and not _same_origin(request):
            return PlainTextResponse(
                "This request came from another site and was refused.\n", status_code=403
            )
        if self._sessions.needs_login and session.user is None and not is_open(request.url.path):
            return _to_login(request)
        return None

    def _wants_cookie(self, request: Request, found: Session | None, answer: MutableHeaders) -> bool:
        path = request.url.path
        if "set-cookie" in answer and COOKIE in ",".join(answer.getlist("set-cookie")):
            return False  # login and logout set their own
        if found is None:
            return path == "/login" or not is_open(path)
        # A page that refreshes itself is not use: a screen left alone must end.
        return not (is_open(path) or path.startswith(_POLLS)) and self._sessions.is_due(found)


def set_cookie(headers: MutableHeaders, value: str, *, secure: bool) -> None:
    """Add the session cookie to an answer."""
    answer = Response()
    answer.set_cookie(COOKIE, value, path="/", httponly=True, samesite="lax", secure=secure)
    headers.append("set-cookie", answer.headers["set-cookie"])


def _same_origin(request: Request) -> bool:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _to_login(request: Request) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    if request.method in _SAFE_METHODS and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"/login?next={quote(request.url.path, safe='/')}", status_code=303)
    return PlainTextResponse("Log in at /login first.\n", status_code=401)
