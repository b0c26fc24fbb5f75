"""Libraries warn by quoting the value they dislike, which may be a patient's name: here they do not warn.

Values were judged before (see `source_repair`), so a second judgement would tell nothing new anyway.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.config import disable_value_validation


@contextmanager
def without_quoted_values() -> Iterator[None]:
    """No warning of pydicom or highdicom about a value, neither to the log nor to standard error."""
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield
