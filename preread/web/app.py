"""The page as an application and as a service: routes, errors in words, the server, a quick stop."""

import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from config.errors import PrereadError
from config.logs import logger
from config.settings import Settings
from db.engine import Database, DatabaseUnavailable
from db.states import IllegalTransition
from preread.web import actions, login, metrics, pictures, study, upkeep, uploads, worklist
from preread.web.forms import FormHandler, posted
from preread.web.guard import Guard
from preread.web.site import FOLDER, make_site, render

STOP_SECONDS = 3
HEADER_SECONDS = 5
REQUESTS_MAX = 200

log = logger("web")


def create_app(settings: Settings, db: Database, *, ready: Callable[[], None] | None = None) -> ASGIApp:
    """The application; `db` must have the current schema; `ready` is called when it begins to serve."""
    site = make_site(settings, db)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if ready is not None:
            ready()
        yield

    app = Starlette(
        routes=routes(),
        exception_handlers={HTTPException: _said, PrereadError: _failed, Exception: _broken},
        lifespan=lifespan,
    )
    app.state.site = site
    # Outside of everything, so that the page about a fault carries the headers, too.
    return Guard(app, sessions=site.sessions)


def routes() -> list[BaseRoute]:
    """Every address of the page; each POST passes `forms.posted` or checks the same token."""
    one = "/studies/{study_id:int}"
    return [
        Route("/", worklist.worklist),
        Route(one, study.study),
        Route("/queue", upkeep.queue_page),
        Route("/models", upkeep.models_page),
        Route("/node", upkeep.node_page),
        Route("/upload", uploads.upload_page, methods=["GET"]),
        Route("/upload", uploads.take_upload, methods=["POST"]),
        Route(one + "/viewer/{series_id:int}", pictures.viewer),
        Route(one + "/slices/{series_id:int}/{index:int}.png", pictures.slice_picture),
        Route(one + "/overlay/{series_id:int}/{index:int}.png", pictures.overlay_picture),
        Route(one + "/results/{result_id:int}/picture.png", pictures.summary_picture),
        Route(one + "/results/{result_id:int}/attention.png", pictures.attention_picture),
        Route(one + "/results/{result_id:int}/{name}.dcm", pictures.result_object),
        Route(one + "/results/{result_id:int}/{name}.npz", pictures.kept_heat_map),
        _post("/search", worklist.search),
        _post("/live/worklist", worklist.live_worklist),
        _post("/live" + one, study.live_study),
        _post("/live/queue", upkeep.live_queue),
        _post("/live/node", upkeep.live_node),
        _post("/view", actions.change_look),
        _post(one + "/analyse", actions.analyse_again),
        _post(one + "/send", actions.send_results_again),
        _post("/jobs/{job_id:int}/retry", actions.retry_job),
        _post("/jobs/{job_id:int}/cancel", actions.cancel_job),
        _post("/deliveries/retry-parked", actions.retry_parked),
        _post("/deliveries/{delivery_id:int}/retry", actions.retry_one_delivery),
        _post("/deliveries/{delivery_id:int}/drop", actions.drop_one_delivery),
        _post("/node/echo", actions.call_peers),
        Route("/login", login.login_page, methods=["GET"]),
        _post("/login", login.log_in),
        _post("/logout", login.log_out),
        Route("/metrics", metrics.metrics),
        Route("/healthz", metrics.healthz),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
    ]


def _post(path: str, handler: FormHandler) -> Route:
    return Route(path, posted(handler), methods=["POST"])


def _said(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    titles = {403: "Refused", 404: "Not here", 405: "Not so", 409: "Not now"}
    text = error.detail if error.status_code != 405 else "This address does not work in that way."
    text = "There is no such page." if text == "Not Found" else text
    return _message(request, error.status_code, titles.get(error.status_code, "This did not work"), text)


def _failed(request: Request, error: Exception) -> Response:
    """An error of ours, in its own words: what, where and the remedy."""
    assert isinstance(error, PrereadError)
    if isinstance(error, IllegalTransition):
        return _message(request, 409, "Not now", f"{error.what[:1].upper()}{error.what[1:]}.", error.remedy)
    away = isinstance(error, DatabaseUnavailable)
    log.error("request failed", kind=type(error).__name__, what=error.what)
    if away or request.url.path in ("/healthz", "/metrics"):
        return PlainTextResponse(f"{error}\n", status_code=503)
    text = f"{error.where}: {error.what}" if error.where else error.what
    return _message(request, 500, "This did not work", f"{text[:1].upper()}{text[1:]}.", error.remedy)


def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours: its text may hold a patient's name, so the page shows none of it."""
    return _message(
        request,
        500,
        "Something is wrong in preread itself",
        f"The page could not be made ({type(error).__name__}). Nothing was changed.",
        "The log of this service has the details; please report it with the version below.",
    )


def _message(request: Request, status: int, title: str, text: str, remedy: str | None = None) -> Response:
    if "text/html" not in request.headers.get("accept", "") or request.headers.get("hx-request"):
        return PlainTextResponse(f"{text}{' ' + remedy if remedy else ''}\n", status_code=status)
    return render(
        request,
        "message.html",
        status=status,
        title=title,
        text=text,
        remedy=remedy,
        nav="",
        nav_counts={"queue": 0, "failed": 0},
        page_path="/",
    )


class _Server(uvicorn.Server):
    """Signals end it, and it ends with exit code 0: uvicorn would raise the signal again afterwards."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def run_web(settings: Settings, *, ready: Callable[[int], None] | None = None) -> int:
    """Serve the page until SIGTERM or SIGINT; returns the exit code, 0 after such a stop.

    Parameters
    ----------
    ready : called once with the port, when requests are answered

    Raises
    ------
    PrereadError
        The address cannot be used, or the database has another schema.
    """
    db = Database.open(settings.database_url)
    try:
        if not db.schema_is_current():
            raise PrereadError(
                "the tables of the database are of another version",
                where="database",
                remedy="Start `preread serve`; it brings them up to date.",
            )
        with _bound(settings) as listening:
            return _serve(settings, db, listening, ready)
    finally:
        db.close()


def _bound(settings: Settings) -> socket.socket:
    host, port = settings.web.host, settings.web.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise PrereadError(
            f"port {port} on {host} cannot be used ({error.strerror})",
            where="web.port",
            remedy="Stop what uses it, or set web.port.",
        ) from error


def _serve(
    settings: Settings, db: Database, listening: socket.socket, ready: Callable[[int], None] | None
) -> int:
    port = int(listening.getsockname()[1])

    def serving() -> None:
        log.info("ready", port=port)
        if ready is not None:
            ready(port)

    config = uvicorn.Config(
        create_app(settings, db, ready=serving),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=REQUESTS_MAX,
        timeout_keep_alive=HEADER_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ws="none",
    )
    _Server(config).run(sockets=[listening])
    return 0
