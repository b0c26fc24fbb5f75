"""PURE: values of a source as they may stand in a result: text, names, dates, times, codes.

Each takes what a header holds (already Unicode, see `pipeline.reading.headers`) and gives a valid value or an
empty one; nothing is guessed. Valid values pass unchanged, so that results match their study.
Source: PS3.5 section 6.2 (value representations)
"""

from __future__ import annotations

import datetime
import re
from typing import Final

LONG_STRING: Final = 64  # LO, and one component group of PN
SHORT_STRING: Final = 16  # SH

_DATE: Final = re.compile(r"(\d{4})([-./]?)(\d{2})\2(\d{2})")
_TIME: Final = re.compile(r"(\d{2})(?:(:?)(\d{2})(?:\2(\d{2})(\.\d+)?)?)?(?:Z|[+-]\d{2}:?\d{2})?")
_AGE: Final = re.compile(r"\d{3}[DWMY]")
_ZONE: Final = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")
_NAME_GROUPS: Final = 3
_NAME_COMPONENTS: Final = 5


def text(value: object, length: int = LONG_STRING) -> str:
    """One value of at most `length` characters: of several the first, without control characters."""
    first = str(_first(value)).split("\\")[0]
    return "".join(c for c in first if c.isprintable()).strip(" ")[:length].rstrip(" ")


def person_name(value: object) -> str:
    """A person name: at most three groups of five components, each group of at most 64 characters."""
    groups = str(_first(value)).split("\\")[0].split("=")[:_NAME_GROUPS]
    cleaned = []
    for group in groups:
        printable = "".join(c for c in group if c.isprintable())
        components = "^".join(printable.split("^")[:_NAME_COMPONENTS])[:LONG_STRING]
        cleaned.append(components.strip(" "))
    return "=".join(cleaned).rstrip("=")


def date(value: object) -> str:
    """YYYYMMDD; also read from YYYY-MM-DD, YYYY.MM.DD and YYYY/MM/DD; else empty."""
    found = _DATE.fullmatch(text(value))
    if found is None:
        return ""
    year, _, month, day = found.groups()
    try:
        datetime.date(int(year), int(month), int(day))
    except ValueError:
        return ""
    return f"{year}{month}{day}"


def time(value: object) -> str:
    """HHMMSS.FFFFFF with trailing parts left out as given; colons, a zone and further digits are dropped."""
    found = _TIME.fullmatch(text(value))
    if found is None:
        return ""
    hour, _, minute, second, fraction = found.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        return ""
    digits = (fraction or "")[:7]
    return hour + (minute or "") + (second or "") + (digits if len(digits) > 1 else "")


def sex(value: object) -> str:
    """M, F or O; else empty."""
    upper = text(value).upper()
    return upper if upper in {"M", "F", "O"} else ""


def age(value: object) -> str:
    """Three digits and a unit as in 045Y; else empty."""
    given = text(value)
    return given if _AGE.fullmatch(given) else ""


def zone(value: object) -> str:
    """An offset from UTC as in +0100; else empty."""
    given = text(value)
    return given if _ZONE.fullmatch(given) else ""


def laterality(value: object) -> str:
    """R, L, U (unpaired) or B (both); else empty."""
    upper = text(value).upper()
    return upper if upper in {"R", "L", "U", "B"} else ""


def _first(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    # Text values with a backslash were split by pydicom; a person name is neither a string nor a list.
    if hasattr(value, "__getitem__") and hasattr(value, "__len__"):
        return value[0] if len(value) else ""
    return value
