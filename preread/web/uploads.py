"""Files and zips dropped on the page: taken, given to the listener one by one, each with its outcome.

The way in is the listener's own door (`listener.handover`): what the page says is stored went through the
same intake as a C-STORE and is durable (law 1). Names of files go back to the browser that sent them, and
nowhere else: people put names of patients in them.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from config.identity import UPLOAD_AE
from config.logs import logger
from config.settings import Settings
from listener.admission import CANNOT_UNDERSTAND, Refusal, plain_address
from listener.handover import hand_over
from listener.intake import Sender
from listener.received_file import ReceivedFile
from preread.web.forms import TOKEN_HEADER
from preread.web.site import page, session_of, site_of
from preread.web.zips import MAGIC, MEMBER_ERRORS, OpenZip, ZipRefused

STALL_SECONDS = 30.0
PIECE_BYTES = 1 << 18
WRITE_BYTES = 1 << 20  # gathered for one write in a thread: a slow disk must not hold up other pages
LINES = "application/x-ndjson"
_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"  # Media Storage Directory: the DICOMDIR of a disc

log = logger("web")


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file; `name` is empty for an upload that is one file."""

    name: str
    state: str  # "stored", "skipped" (nothing to store in it), "refused"
    why: str = ""

    @property
    def line(self) -> str:
        """As a line of the answer."""
        return json.dumps({"name": self.name, "state": self.state, "why": self.why}) + "\n"


def upload_page(request: Request) -> Response:
    """Where files are dropped, or how to allow it."""
    settings = site_of(request).settings
    return page(
        request,
        "upload.html",
        "Upload",
        gib_max=settings.web.upload_gib_max,
        quiet_seconds=settings.listener.quiet_seconds,
        sent_to=settings.results.send_to,
    )


async def take_upload(request: Request) -> Response:
    """One file or zip as the body of a POST; a line per file in it, as they are stored.

    Guarded like a form (`forms.posted`): the token of the session is in a header, since the body is a file.
    """
    site = site_of(request)
    settings = site.settings
    if not site.sessions.token_matches(session_of(request), request.headers.get(TOKEN_HEADER)):
        raise HTTPException(403, "This page is no longer valid. Open it again and repeat what you did.")
    if not settings.web.upload:
        raise HTTPException(404, "Uploads are off. Set web.upload to true.")
    if not site.upload_places.acquire(blocking=False):
        raise HTTPException(503, "Too many uploads at a time. Try again in a moment.")
    file = tempfile.TemporaryFile(dir=settings.state_folder, prefix="incoming-")  # noqa: SIM115
    try:
        await _receive(request, file, int(settings.web.upload_gib_max * (1 << 30)))
    except BaseException:
        file.close()
        site.upload_places.release()
        raise
    host = request.client.host if request.client else "127.0.0.1"
    sender = Sender(UPLOAD_AE, settings.node.ae_title, _address(host))

    def over() -> None:
        file.close()
        site.upload_places.release()

    return _Lines(outcomes_of(file, settings, sender), over)


class _Lines(StreamingResponse):
    """The outcomes as they become known; `over` is called whatever happens to the answer."""

    def __init__(self, outcomes: Iterator[FileOutcome], over: Callable[[], None]) -> None:
        super().__init__((outcome.line for outcome in outcomes), media_type=LINES)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


def _address(host: str) -> str:
    try:
        return plain_address(host)
    except ValueError:
        return host


async def _receive(request: Request, file: BinaryIO, bytes_max: int) -> None:
    """The body into the file. Raises `HTTPException`."""
    too_large = HTTPException(413, "The file is larger than web.upload_gib_max allows.")
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > bytes_max:
        raise too_large
    size, gathered = 0, bytearray()
    stream = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout(STALL_SECONDS):
                piece = await anext(stream, None)
            size += len(piece or b"")
            if size > bytes_max:
                raise too_large
            gathered += piece or b""
            if piece is None or len(gathered) >= WRITE_BYTES:
                await run_in_threadpool(file.write, gathered)
                gathered = bytearray()
            if piece is None:
                return
    except TimeoutError:
        raise HTTPException(408, "The upload stopped. Send it again.") from None
    except ClientDisconnect:
        raise HTTPException(400, "The upload was broken off.") from None
    except OSError as error:
        log.error("an upload could not be kept", reason=error.strerror)
        raise HTTPException(507, "The disk of this node is full. Free space, then send it again.") from None


def outcomes_of(file: BinaryIO, settings: Settings, sender: Sender) -> Iterator[FileOutcome]:
    """Give every DICOM file in an upload to the listener; says what became of each."""
    file.seek(0)
    is_zip = file.read(len(MAGIC)) == MAGIC
    file.seek(0)
    stored = 0
    for outcome in (
        _of_zip(file, settings, sender) if is_zip else [_of_file("", _read(file), settings, sender)]
    ):
        stored += outcome.state == "stored"
        yield outcome
    log.info("upload", stored=stored)


def _of_zip(file: BinaryIO, settings: Settings, sender: Sender) -> Iterator[FileOutcome]:
    try:
        opened = OpenZip(file, bytes_max=int(settings.web.upload_gib_max * (1 << 30)))
        for member in opened.members():
            try:
                yield _of_file(member.filename, opened.pieces(member), settings, sender)
            except MEMBER_ERRORS:
                yield FileOutcome(member.filename, "refused", "damaged or encrypted inside the zip")
    except ZipRefused as refused:
        yield FileOutcome("", "refused", f"the zip is not read: {refused}")


def _of_file(name: str, pieces: Iterable[bytes], settings: Settings, sender: Sender) -> FileOutcome:
    with ReceivedFile(settings) as received:
        for piece in pieces:
            received.feed(piece)
            if received.refusal is not None:
                break
        judged = received.finish()
        if received.sop_class == _DIRECTORY_CLASS:
            return FileOutcome(name, "skipped", "the directory of a disc, no image")
        if isinstance(judged, Refusal):
            is_foreign = judged.status == CANNOT_UNDERSTAND and not received.is_dicom
            return FileOutcome(name, "skipped" if is_foreign else "refused", judged.comment)
        refusal = hand_over(
            settings.state_folder,
            sender,
            judged,
            descriptor=received.file.fileno(),
            size=received.size,
        )
    return FileOutcome(name, "stored") if refusal is None else FileOutcome(name, "refused", refusal.comment)


def _read(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece
