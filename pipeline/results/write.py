"""A finished object to the bytes of a Part-10 file: written once, stored, and sent as they are."""

from __future__ import annotations

from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataset import Dataset


def to_part10(finished: Dataset) -> bytes:
    """Preamble, file meta information and dataset, with the transfer syntax named in `finished.file_meta`.

    Source: PS3.10 section 7
    """
    buffer = BytesIO()
    dcmwrite(buffer, finished, enforce_file_format=True)
    return buffer.getvalue()
