"""What every page needs in one place: settings, rows, bytes, sessions, templates; and how one is rendered."""

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from markupsafe import Markup, escape
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from config.identity import RESEARCH_SENTENCE, VERSION
from config.settings import Settings, is_loopback
from db.engine import Database
from db.instances import ByteStore
from db.worklist import counts
from preread.web import words
from preread.web.cards import Shelf
from preread.web.checks import Checks
from preread.web.overlay import Segmentations
from preread.web.sessions import Brake, Session, Sessions, signing_key
from preread.web.slices import SliceReader

VIEW_COOKIE = "preread-view"
VIEW_SECONDS = 365 * 86400
FOLDER = Path(__file__).parent
NUMBER_MAX = 2**63 - 1
UPLOADS_AT_ONCE = 4


@dataclass(frozen=True)
class Site:
    """The parts of one running page; lives as `request.app.state.site`."""

    settings: Settings
    db: Database
    store: ByteStore
    sessions: Sessions
    brake: Brake
    slices: SliceReader
    segmentations: Segmentations
    shelf: Shelf
    checks: Checks
    upload_places: threading.Semaphore
    templates: jinja2.Environment

    def now(self) -> datetime:
        """The time now, aware."""
        return words.utc_now()


def make_site(settings: Settings, db: Database) -> Site:
    """Put the parts together; the signing key is made at the first start."""
    store = ByteStore(settings.spool_folder)
    sessions = Sessions(
        signing_key(settings.state_folder),
        settings.web.logins,
        minutes=settings.web.session_minutes,
        clock=time.time,
    )
    return Site(
        settings=settings,
        db=db,
        store=store,
        sessions=sessions,
        brake=Brake(clock=time.monotonic),
        slices=SliceReader(store),
        segmentations=Segmentations(store),
        shelf=Shelf(settings),
        checks=Checks(settings),
        upload_places=threading.Semaphore(UPLOADS_AT_ONCE),
        templates=_environment(),
    )


@dataclass(frozen=True)
class Look:
    """What one browser chose: names hidden on a shared screen, light instead of dark."""

    hides_identities: bool
    is_light: bool

    @property
    def cookie(self) -> str:
        """The choice as the value of a cookie."""
        chosen = [("hide", self.hides_identities), ("light", self.is_light)]
        return ".".join(name for name, is_on in chosen if is_on) or "plain"


def look_of(request: Request) -> Look:
    """What this browser chose."""
    chosen = request.cookies.get(VIEW_COOKIE, "").split(".")
    return Look(hides_identities="hide" in chosen, is_light="light" in chosen)


def site_of(request: Request) -> Site:
    """The site that answers a request."""
    site = request.app.state.site
    assert isinstance(site, Site)
    return site


def number_in(request: Request, name: str) -> int:
    """A number of the path.

    Raises
    ------
    HTTPException
        No row can have it (404).
    """
    number = int(request.path_params[name])
    if number > NUMBER_MAX:
        raise HTTPException(404, "There is no such page.")
    return number


def session_of(request: Request) -> Session:
    """The session that the guard found or began."""
    session = request.state.session
    assert isinstance(session, Session)
    return session


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A page or a part of one, with what every page shows."""
    return HTMLResponse(rendered(request, template, **context), status_code=status)


def rendered(request: Request, template: str, **context: Any) -> str:
    """The text of a page or a part of one."""
    site, session = site_of(request), session_of(request)
    common = {
        "look": look_of(request),
        "path": request.url.path,
        "user": session.user,
        "token": site.sessions.token(session),
        "needs_login": site.sessions.needs_login,
        "node": site.settings.node,
        "version": VERSION,
        "takes_plain": not is_loopback(site.settings.listener.host),
        "takes_uploads": site.settings.web.upload,
        "research": RESEARCH_SENTENCE,
        "now": site.now(),
    }
    return site.templates.get_template(template).render({**common, **context})


def live(request: Request, template: str, *, seen: str, **context: Any) -> Response:
    """A part of a page that asks for itself again: 204 while it is what the browser has, so nothing moves."""
    text = rendered(request, template, **context, mark="\0")
    mark = sha256(text.encode()).hexdigest()[:16]
    if mark == seen:
        return Response(status_code=204)
    return HTMLResponse(text.replace("\0", mark))


def marked(request: Request, template: str, **context: Any) -> str:
    """The same part for the first showing, inside its page."""
    text = rendered(request, template, **context, mark="\0")
    return text.replace("\0", sha256(text.encode()).hexdigest()[:16])


def page(request: Request, template: str, nav: str, *, part: str | None = None, **context: Any) -> Response:
    """A whole page with its navigation, and its living part rendered into it."""
    by_chip = counts(site_of(request).db)
    waiting = {"queue": by_chip["running"], "failed": by_chip["failed"]}
    context = {"nav": nav, "nav_counts": waiting, "page_path": _address(request), **context}
    living = marked(request, part, **context) if part else ""
    return render(request, template, live_html=living, **context)


def _address(request: Request) -> str:
    """Where a form on this page goes back to."""
    path, query = request.url.path, request.url.query
    return f"{path}?{query}" if query and request.method == "GET" else path


def local_path(target: str | None) -> str:
    """A path of ours to go to next; anything else becomes the worklist, so that no link leads away."""
    parts = urlsplit(target or "/")
    is_ours = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    return parts.path if is_ours and not parts.path.startswith("//") and "\\" not in parts.path else "/"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        plain=words.plain,
        ticks=_ticks,
        reason=words.reason,
        person=words.person,
        dicom_date=words.dicom_date,
        exact=words.exact,
        seconds_clock=words.seconds_clock,
        span=words.span,
        size=words.size,
        listed=words.listed,
    )
    environment.globals.update(
        clock=words.clock,
        since=words.since,
        counted=words.counted,
        stage_words=words.stage_words,
        delivery_sign=words.delivery_sign,
        job_sign=words.job_sign,
        asset=_asset_mark(),
    )
    return environment


def _ticks(text: object) -> Markup:
    """A sentence of ours whose `names of commands` stand in ticks, as on the command line."""
    parts = words.plain(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 and index < len(parts) - 1 else escape(part)
        for index, part in enumerate(parts)
    )


def _asset_mark() -> str:
    """Changes when a file in static/ does, so that a browser never runs the script of an older version."""
    digest = sha256()
    for file in sorted((FOLDER / "static").iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
