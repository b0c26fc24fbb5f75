"""The STOW-RS endpoint: who asks, files out of the body, each handed to the listener, one answer for all.

Default deny: a request is read only when its token is one of the settings and the listener takes instances
of that peer from that address. Each instance is answered after its own commit (law 1) and fails alone.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from config.logs import logger
from config.settings import Settings
from config.tokens import token_matches
from listener.admission import (
    CANNOT_UNDERSTAND,
    NOT_AUTHORIZED,
    SUCCESS,
    Refusal,
    is_uid,
    plain_address,
    remedy_of,
)
from listener.guard import PROGRESS_BYTES_PER_SECOND
from listener.handover import hand_over, may_send, tell
from listener.intake import Sender
from listener.received_file import ReceivedFile
from listener.stow.answer import Form, Outcome, dataset_of, form_of, status_of
from listener.stow.body import DICOM, BodyError, MultipartBody, PartBegins, PartBytes, WholeBody, body_of

HANDED_MAX = 24  # instances that wait for the listener's commit, of all requests
INSTANCES_MAX = 10_000  # of one request; their outcomes are kept until it is answered
DISCARDED_BYTES_MAX = 256 << 10  # read before a refusal, so that the peer reads it and not a reset
DISCARD_SECONDS = 1.0
TOLD_PER_SECOND = 20
RETRY_SECONDS = 5
_UNKNOWN = "(STOW-RS)"

log = logger("stow")
_T = TypeVar("_T")


class _Refused(Exception):
    """The request as a whole is refused: what to answer, and what a person should see of it."""

    def __init__(self, status: int, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.status, self.reason, self.remedy = status, reason, remedy


class Stow:
    """The endpoint of one node."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.state_folder
        self._tokens = [(peer.token_hash, peer.ae_title) for peer in settings.peers if peer.token_hash]
        self._stall_seconds = settings.listener.stall_seconds
        self._bytes_max = int(settings.stow.request_gib_max * (1 << 30))
        self._places = _Places(settings.stow.requests_max)
        self._threads = ThreadPoolExecutor(HANDED_MAX, thread_name_prefix="hand-over")
        self._window = asyncio.Semaphore(HANDED_MAX)
        self._told: Counter[int] = Counter()

    async def store(self, request: Request) -> Response:
        """POST studies, and POST studies/{study}."""
        host = request.client.host if request.client else ""
        sender = Sender(_UNKNOWN, self._settings.node.ae_title, plain_address(host))
        try:
            sender = self._identified(request, sender)
            form, body = self._understood(request)
            with self._places.of(sender.calling_ae):
                await self._admitted(sender)
                return await self._stored(request, body, form, sender)
        except _Refused as refused:
            return await self._refusal(request, sender, refused)
        except ClientDisconnect:
            log.info("the peer went away inside a request", peer=sender.address)
            return Response(status_code=400)

    def _identified(self, request: Request, sender: Sender) -> Sender:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        # Every hash is compared, so that the time tells nothing about which one came near.
        fitting = [ae for hashed, ae in self._tokens if token_matches(token.strip(), hashed)]
        if scheme.lower() != "bearer" or not fitting:
            raise _Refused(
                401,
                "STOW-RS without a token that is known here",
                "If it may send, make a token with `preread config token` and set token_hash of its peer.",
            )
        return Sender(fitting[0], sender.called_ae, sender.address)

    def _understood(self, request: Request) -> tuple[Form, WholeBody | MultipartBody]:
        """How to answer and how to read, by the headers alone."""
        study_uid = request.path_params.get("study")
        form = form_of(request.headers.get("accept", ""))
        length = request.headers.get("content-length", "0")
        if study_uid is not None and not is_uid(study_uid.encode()):
            raise _Refused(400, "the study in the address is not a UID", "Correct the sender.")
        if form is None:
            raise _Refused(406, "Accept names neither DICOM JSON nor DICOM XML", "Correct the sender.")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise _Refused(415, "the body is compressed as a whole", "Let the sender send it as it is.")
        if length.isdigit() and int(length) > self._bytes_max:
            raise self._too_large()
        try:
            return form, body_of(request.headers.get("content-type", ""))
        except BodyError as error:
            raise _Refused(error.status, error.reason, "Correct the sender.") from error

    async def _admitted(self, sender: Sender) -> None:
        refusal = await self._in_thread(partial(may_send, self._folder, sender))
        if refusal is None:
            return
        if refusal.status == NOT_AUTHORIZED:
            raise _Refused(
                403,
                "this token may not send, or not from this address",
                f"If it may, add {sender.address} to the addresses of its peer and set may_send.",
            )
        raise _Refused(503, refusal.comment, "Look at the log of the listener.")

    async def _stored(
        self, request: Request, body: WholeBody | MultipartBody, form: Form, sender: Sender
    ) -> Response:
        """Read the request to its end or its fault; answer what became of each instance."""
        taken = _Taken(self, sender, request.path_params.get("study"))
        fault: BodyError | None = None
        is_over = False
        try:
            async for content in self._pieces(request):
                for event in body.feed(content):
                    await taken.take(event)
            is_over = True
            for event in body.finish():
                await taken.take(event)
        except BodyError as error:
            fault = error
        finally:
            outcomes = await taken.finish()
        if fault is None and not outcomes:
            fault = BodyError(400, "the request holds no instance")
        status = fault.status if fault else status_of(outcomes)
        log.info("request answered", status=status, peer=sender.address, instances=len(outcomes))
        if fault is not None:
            await self._tell(sender, fault.reason, "Correct the sender; what came before is answered alone.")
            if not is_over:
                await _discard(request)
        headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
        if fault is not None:
            headers["Warning"] = f'299 preread "{fault.reason}"'
        return Response(dataset_of(outcomes, form), status, headers, media_type=form)

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        """The body as it arrives, within the bounds that associations have, too. Raises `BodyError`."""
        size, waited, is_over = 0, 0.0, False
        while not is_over:
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._stall_seconds):
                    content, is_over = await _next_piece(request)
            except TimeoutError:
                raise BodyError(408, "the sender stopped inside the request") from None
            waited += time.monotonic() - began
            size += len(content)
            if waited > self._stall_seconds + size / PROGRESS_BYTES_PER_SECOND:
                raise BodyError(408, "the sender is too slow")
            if size > self._bytes_max:
                raise BodyError(413, "the request is larger than stow.request_gib_max")
            if content:
                yield content

    async def handed_over(self, received: ReceivedFile, sender: Sender) -> Outcome:
        """Give a file that is whole to the listener, when there is room, and wait for its commit."""
        async with self._window:
            judged = received.finish()
            refusal: Refusal | None
            if isinstance(judged, Refusal):
                refusal = judged
                reason = f"instance refused with {refusal.status:04X}: {refusal.comment}"
                await self._tell(sender, reason, remedy_of(refusal))
            else:
                descriptor = received.file.fileno()
                handing = partial(hand_over, descriptor=descriptor, size=received.size)
                refusal = await self._in_thread(partial(handing, self._folder, sender, judged))
        status = SUCCESS if refusal is None else refusal.status
        return Outcome(received.sop_class, received.sop_instance, status)

    def new_file(self, study_uid: str | None) -> ReceivedFile:
        """Where to the next file of a request goes."""
        return ReceivedFile(self._settings, study_uid=study_uid)

    def _too_large(self) -> _Refused:
        return _Refused(
            413, "the request is larger than stow.request_gib_max", "Send less at once, or raise it."
        )

    async def _refusal(self, request: Request, sender: Sender, refused: _Refused) -> Response:
        await self._tell(sender, f"STOW-RS refused with {refused.status}: {refused.reason}", refused.remedy)
        await _discard(request)
        headers = {"Connection": "close"}
        if refused.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="preread"'
        if refused.status == 503:
            headers["Retry-After"] = str(RETRY_SECONDS)
        return PlainTextResponse(f"{refused.reason}\n", refused.status, headers)

    async def _tell(self, sender: Sender, reason: str, remedy: str) -> None:
        """Make a refusal visible; a flood of them must not become a flood of messages."""
        second = int(time.monotonic())
        if self._told[second] < TOLD_PER_SECOND:
            self._told = Counter({second: self._told[second] + 1})
            await self._in_thread(partial(tell, self._folder, sender, reason, remedy))

    async def _in_thread(self, act: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, act)


class _Taken:
    """The files of one request: the one that arrives, and what became of those before it."""

    def __init__(self, stow: Stow, sender: Sender, study_uid: str | None) -> None:
        self._stow, self._sender, self._study_uid = stow, sender, study_uid
        self._arriving: ReceivedFile | None = None
        self._handed: list[asyncio.Task[Outcome] | Outcome] = []

    async def take(self, event: PartBegins | PartBytes | object) -> None:
        """Act on what the body says next. Raises `BodyError`."""
        if isinstance(event, PartBegins):
            if len(self._handed) >= INSTANCES_MAX:
                raise BodyError(413, f"more than {INSTANCES_MAX} instances in one request")
            self._arriving = self._stow.new_file(self._study_uid)
            if event.media_type != DICOM:
                self._arriving.refusal = Refusal(CANNOT_UNDERSTAND, f"a part that is not {DICOM}")
        elif isinstance(event, PartBytes):
            assert self._arriving is not None
            self._arriving.feed(event.content)
        else:
            assert self._arriving is not None
            whole, self._arriving = self._arriving, None
            task = asyncio.create_task(self._hand_over(whole))
            self._handed.append(task)
            await asyncio.sleep(0)
            await self._keep_few_waiting()

    async def finish(self) -> list[Outcome]:
        """The outcomes in the order of the request; nothing of a file that did not arrive whole is left."""
        if self._arriving is not None:
            self._arriving.close()
        return [one if isinstance(one, Outcome) else await one for one in self._handed]

    async def _hand_over(self, whole: ReceivedFile) -> Outcome:
        with whole:
            return await self._stow.handed_over(whole, self._sender)

    async def _keep_few_waiting(self) -> None:
        """Back-pressure: a sender that is faster than the disk is not read on."""
        oldest = len(self._handed) - HANDED_MAX
        if oldest >= 0:
            waiting = self._handed[oldest]
            if not isinstance(waiting, Outcome):
                self._handed[oldest] = await waiting


class _Places:
    """How many requests are served at a time; one peer may take half of the places."""

    def __init__(self, requests_max: int) -> None:
        self._requests_max = requests_max
        self._taken: Counter[str] = Counter()

    def of(self, ae_title: str) -> "_Place":
        """A place for a request. Raises `_Refused` when there is none."""
        half = max(1, self._requests_max // 2)
        if self._taken.total() >= self._requests_max or self._taken[ae_title] >= half:
            raise _Refused(
                503, "too many requests at a time", "Raise stow.requests_max if so many are wanted."
            )
        return _Place(self._taken, ae_title)


class _Place:
    """One request's place, as a context."""

    def __init__(self, taken: Counter[str], ae_title: str) -> None:
        self._taken, self._ae_title = taken, ae_title

    def __enter__(self) -> None:
        self._taken[self._ae_title] += 1

    def __exit__(self, *_: object) -> None:
        self._taken[self._ae_title] -= 1


async def _discard(request: Request) -> None:
    """Read a little of the rest of a body that nobody wants."""
    size, is_over = 0, False
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(DISCARD_SECONDS):
            while not is_over and size < DISCARDED_BYTES_MAX:
                content, is_over = await _next_piece(request)
                size += len(content)


async def _next_piece(request: Request) -> tuple[bytes, bool]:
    """The next bytes of a body, and whether they are the last. Raises `ClientDisconnect`."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), not message.get("more_body", False)


def create_app(settings: Settings) -> Starlette:
    """The application; answers nothing but the two addresses of STOW-RS."""
    stow = Stow(settings)

    async def broken(request: Request, error: Exception) -> Response:
        # Only the kind: the text of an exception may quote a patient.
        log.error("request broke", kind=type(error).__name__)
        return PlainTextResponse("an error of this node\n", 500)

    async def said(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)

    return Starlette(
        routes=[
            Route("/studies", stow.store, methods=["POST"]),
            Route("/studies/{study}", stow.store, methods=["POST"]),
        ],
        exception_handlers={HTTPException: said, Exception: broken},
    )
