"""Every change goes through here: a form of a page of ours, small, with the token of its session."""

from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from preread.web.site import session_of, site_of

FIELDS_MAX = 32
FORM_BYTES_MAX = 16384
TOKEN_FIELD = "token"
TOKEN_HEADER = "x-form-token"

FormHandler = Callable[[Request, FormData], Response]


def posted(handler: FormHandler) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for POST that runs `handler` (in a thread) only when the form is ours."""

    async def endpoint(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=FIELDS_MAX, max_part_size=FORM_BYTES_MAX) as form:
            token = request.headers.get(TOKEN_HEADER) or form.get(TOKEN_FIELD)
            if not site_of(request).sessions.token_matches(session_of(request), token):
                raise HTTPException(
                    403, "This form is no longer valid. Open the page again and repeat what you did."
                )
            return await run_in_threadpool(handler, request, form)

    endpoint.__name__ = getattr(handler, "__name__", "posted")
    return endpoint


def text_of(form: FormData, name: str, *, length_max: int = 256) -> str:
    """One field as text, cut to a length; empty when it is absent or a file."""
    value = form.get(name)
    return value[:length_max] if isinstance(value, str) else ""


def number_of(form: FormData, name: str) -> int:
    """One field as a number.

    Raises
    ------
    HTTPException
        It is none (400).
    """
    text = text_of(form, name)
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise HTTPException(400, f"The field {name} is not a number. Open the page again and repeat.")
    return int(text)
