"""SANS-IO: the body of a STOW-RS request as files in order: one alone, or multipart/related (RFC 2387).

Feed it as it arrives; memory is bounded on any input, and any input is events or a `BodyError`. The splitting
at boundaries is python-multipart's.
"""

from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

DICOM = "application/dicom"
MULTIPART = "multipart/related"
HEADERS_MAX, HEADER_BYTES_MAX = 16, 2048
BOUNDARY_LENGTH_MAX = 128  # RFC 2046 section 5.1.1 says 70; Orthanc (DICOMweb plugin 1.7) sends 73


class BodyError(Exception):
    """The body cannot be read on: the HTTP status to answer, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class PartBegins(NamedTuple):
    """A file begins; `media_type` is what its part says it is."""

    media_type: str


class PartBytes(NamedTuple):
    """The next bytes of the file."""

    content: bytes


class PartEnds(NamedTuple):
    """The file is whole."""


Event = PartBegins | PartBytes | PartEnds


class WholeBody:
    """A body that is one file."""

    def __init__(self) -> None:
        self._has_begun = False

    def feed(self, content: bytes) -> list[Event]:
        """What `content` completes."""
        begins: list[Event] = [] if self._has_begun else [PartBegins(DICOM)]
        self._has_begun = True
        return [*begins, PartBytes(content)]

    def finish(self) -> list[Event]:
        """The body ended. Raises `BodyError` when it was empty."""
        if not self._has_begun:
            raise BodyError(400, "the request has no body")
        return [PartEnds()]


class MultipartBody:
    """A body of several parts."""

    def __init__(self, boundary: bytes) -> None:
        self._events: list[Event] = []
        self._name, self._value = b"", b""
        self._media_type = DICOM  # a part without a type is what the whole says it is
        self._is_over = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_bytes,
                "on_part_end": self._part_ends,
                "on_end": self._over,
            },
            max_header_count=HEADERS_MAX,
            max_header_size=HEADER_BYTES_MAX,
        )

    def feed(self, content: bytes) -> list[Event]:
        """What `content` completes. Raises `BodyError`."""
        try:
            self._parser.write(content)
        except FormParserError as error:
            raise BodyError(400, "the parts of the body cannot be told apart") from error
        events, self._events = self._events, []
        return events

    def finish(self) -> list[Event]:
        """The body ended. Raises `BodyError` when that was before its last boundary."""
        if not self._is_over:
            raise BodyError(400, "the body ends before its last boundary")
        return []

    def _part_begins(self) -> None:
        self._media_type = DICOM

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._name.lower() == b"content-type":
            self._media_type = _media_type(self._value.decode("latin-1"))[0]
        self._name, self._value = b"", b""

    def _headers_end(self) -> None:
        self._events.append(PartBegins(self._media_type))

    def _part_bytes(self, data: bytes, start: int, end: int) -> None:
        self._events.append(PartBytes(data[start:end]))

    def _part_ends(self) -> None:
        self._events.append(PartEnds())

    def _over(self) -> None:
        self._is_over = True


def body_of(content_type: str) -> WholeBody | MultipartBody:
    """What reads a body of this type. Raises `BodyError` (400, 415)."""
    media_type, parameters = _media_type(content_type)
    if media_type == DICOM:
        return WholeBody()
    if media_type != MULTIPART:
        raise BodyError(415, f"the body must be {MULTIPART} or {DICOM}")
    if parameters.get("type", DICOM).lower() != DICOM:
        raise BodyError(415, f"the parts must be {DICOM}; metadata and bulk data apart are not taken")
    boundary = parameters.get("boundary", "")
    if not 1 <= len(boundary) <= BOUNDARY_LENGTH_MAX:
        raise BodyError(400, f"Content-Type has no boundary of 1 to {BOUNDARY_LENGTH_MAX} characters")
    return MultipartBody(boundary.encode("latin-1"))


def _media_type(header: str) -> tuple[str, dict[str, str]]:
    media_type, parameters = parse_options_header(header.encode("latin-1", "replace"))
    found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in parameters.items()}
    return media_type.decode("latin-1").strip().lower(), found
