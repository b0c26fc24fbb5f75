"""PURE the words and signs of the page: what a state is called, how a time, a span or a name is written.

Everything that came from a peer passes `plain` before it is shown: markup is escaped by the templates, but
control and direction characters would still let a name reorder the line it stands in.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from db.records import JobRecord, StudyRecord

Tone = Literal["urgent", "finding", "clear", "quiet", "failed", "running"]
_SHOWN_IN_PLACE = "\N{REPLACEMENT CHARACTER}"
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ZERO_WIDTH = frozenset("\u200b\u2060\ufeff")
STAGE_WORDS = {
    "reading": "reading the images",
    "predicting": "running the model",
    "writing": "writing the results",
}
STAGES = ("reading", "predicting", "writing")


@dataclass(frozen=True)
class Sign:
    """A shape, a word and a tone; the tone colours what shape and word already say."""

    icon: str
    word: str
    tone: Tone


def has_present_findings(study: StudyRecord) -> bool:
    """Whether what its row says of findings is of this revision: a later one shows none before it is done."""
    return study.state == "done" or study.revision == 1


def study_sign(study: StudyRecord, *, urgent: bool, has_findings: bool) -> Sign:
    """The sign in front of a study: an urgent finding first, then what needs a person, then the rest."""
    if urgent and has_present_findings(study):
        return Sign("urgent", "urgent finding", "urgent")
    if study.outcome == "failed":
        return Sign("failed", "failed", "failed")
    if study.state == "receiving":
        return Sign("running", "receiving", "running")
    if study.state != "done":
        return Sign("running", "queued" if study.state == "whole" else "running", "running")
    if study.outcome == "not_analysed":
        return Sign("skipped", "not analysed", "quiet")
    if has_findings:
        return Sign("finding", "finding", "finding")
    return Sign("none", "no finding", "quiet")


def study_sentence(study: StudyRecord, *, stage: str | None) -> str:
    """What happens to a study, or why nothing was found in it; empty when its findings say all."""
    if study.state == "receiving":
        return f"receiving, {counted(study.instances, 'image')} so far"
    if study.state == "whole":
        return "waits for a worker"
    if study.state == "analysing":
        return stage_words(stage)
    if study.outcome == "not_analysed":
        return f"not analysed: {plain(study.reason or study.reason_code)}"
    if study.outcome == "failed":
        return plain(study.reason or study.reason_code) or "no error was recorded"
    return ""


def stage_words(stage: str | None) -> str:
    """The stage of a job as a person says it."""
    return STAGE_WORDS.get(stage or "", plain(stage) or "running")


def job_sign(job: JobRecord) -> Sign:
    """The sign in front of a job."""
    if job.state == "failed":
        return Sign("failed", "failed", "failed")
    if job.state == "cancelled":
        return Sign("skipped", "cancelled", "quiet")
    if job.state == "running":
        return Sign("running", stage_words(job.stage), "running")
    if job.state == "queued":
        return Sign("waiting", "waits", "quiet")
    if job.outcome == "not_analysed":
        return Sign("skipped", "not analysed", "quiet")
    return Sign("clear", "done", "clear")


def delivery_sign(state: str) -> Sign:
    """The sign in front of a delivery."""
    return {
        "delivered": Sign("clear", "delivered", "clear"),
        "parked": Sign("failed", "parked", "failed"),
        "dropped": Sign("skipped", "dropped", "quiet"),
        "sending": Sign("running", "sending", "running"),
    }.get(state, Sign("waiting", "waits", "quiet"))


def plain(text: object) -> str:
    """Text of a peer on one line, without characters that are not seen or that turn the reading direction."""
    if text is None:
        return ""
    shown = (
        _SHOWN_IN_PLACE
        if c in _BIDI or c in _ZERO_WIDTH or (unicodedata.category(c) in ("Cc", "Cs") and not c.isspace())
        else c
        for c in str(text)
    )
    return " ".join("".join(shown).split())


def reason(sentence: object) -> str:
    """Why a series was not taken, without the words that stand before it on the page."""
    return plain(sentence).removeprefix("not taken: ")


def person(name: object) -> str:
    """A DICOM person name as it is read: "DOE^JANE^^DR" is "DOE, JANE, DR" (PS3.5 6.2.1)."""
    groups = [group for group in plain(name).split("=") if group.strip("^ ")]
    if not groups:
        return ""
    family, *others = (part.strip() for part in groups[0].split("^"))
    return ", ".join(part for part in (family, " ".join(o for o in others if o)) if part)


def dicom_date(value: object) -> str:
    """A DICOM date: "20240131" is "2024-01-31"; anything else as it came."""
    text = plain(value)
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def clock(at: datetime | None, now: datetime) -> str:
    """A time of the node's own zone, as short as it can be: the hour today, else the day, too."""
    if at is None:
        return "–"
    here, today = at.astimezone(), now.astimezone()
    if here.date() == today.date():
        return here.strftime("%H:%M")
    if abs((today - here).days) < 6:
        return here.strftime("%a %H:%M")
    if here.year == today.year:
        return here.strftime("%-d %b")
    return here.strftime("%-d %b %Y")


def exact(at: datetime | None) -> str:
    """A time in full, with its zone."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def seconds_clock(at: datetime) -> str:
    """A time of day to the second, for a timeline."""
    return at.astimezone().strftime("%H:%M:%S")


def span(seconds: float | None) -> str:
    """A duration: 12 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    for big, small, size, step in (("min", "s", 60, 3600), ("h", "min", 3600, 86400)):
        if whole < step:
            rest = whole % size // (size // 60)
            return f"{whole // size} {big}" + (f" {rest} {small}" if rest else "")
    hours = whole % 86400 // 3600
    return f"{whole // 86400} d" + (f" {hours} h" if hours else "")


def since(at: datetime | None, now: datetime) -> str:
    """How long ago."""
    return "never" if at is None else f"{span((now - at).total_seconds())} ago"


def size(count: float) -> str:
    """Bytes with a unit of 1000, as disks are sold and filled."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(number: int, thing: str) -> str:
    """A number with its thing: 1 image, 24 images; series and studies as they are."""
    if number == 1 or thing.endswith("series"):
        return f"{number} {thing}"
    return f"{number} {thing[:-1]}ies" if thing.endswith("y") else f"{number} {thing}s"


def listed(things: Sequence[str]) -> str:
    """Things as a sentence lists them."""
    if len(things) < 2:
        return "".join(things)
    return f"{', '.join(things[:-1])} and {things[-1]}"


def utc_now() -> datetime:
    """The time now, aware."""
    return datetime.now(UTC)
