"""The worklist: chips with counts, search, one line per study, the most urgent finding first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from db.views import WorklistRow
from db.worklist import Chip, counts, studies
from preread.web import words
from preread.web.forms import text_of
from preread.web.site import Site, live, page, site_of

PAGE_ROWS = 60
PERIODS: tuple[tuple[str, str, float | None], ...] = (
    ("day", "24 hours", 86400.0),
    ("week", "7 days", 7 * 86400.0),
    ("ever", "all days", None),
)
CHIPS: tuple[tuple[Chip, str, str], ...] = (
    ("all", "All", "No study yet"),
    ("attention", "Needs attention", "Nothing needs attention"),
    ("findings", "Findings", "No study with findings"),
    ("none", "No findings", "No study without findings"),
    ("not_analysed", "Not analysed", "Every study was analysed"),
    ("failed", "Failed", "Nothing failed"),
    ("running", "Running", "Nothing runs"),
)


@dataclass(frozen=True)
class RowLine:
    """One line of the worklist, in words."""

    id: int
    sign: words.Sign
    at: datetime
    modalities: str
    description: str
    accession: str
    patient: str
    headline: str
    sentence: str
    is_failed: bool
    destinations: str
    delivered: int
    deliveries: int
    is_kept: bool
    seconds: float | None
    conflicts: int
    revision: int


@dataclass(frozen=True)
class Listing:
    """Which studies a worklist shows; unknown words become the first choice."""

    chip: Chip = "all"
    period: str = PERIODS[0][0]
    search: str = ""
    offset: int = 0

    @staticmethod
    def of(words_by_name: Mapping[str, str]) -> "Listing":
        """From the query of an address or the fields of a form."""
        search = words_by_name.get("search", "").strip()[:64]
        asked = words_by_name.get("chip")
        chip = next((name for name, _, _ in CHIPS if name == asked), CHIPS[0][0])
        period = next((name for name, _, _ in PERIODS if name == words_by_name.get("period")), PERIODS[0][0])
        offset = words_by_name.get("offset", "0")
        if search:  # whoever searches for a patient means all studies that are here
            return Listing(search=search, period="ever")
        number = int(offset) if offset.isascii() and offset.isdigit() and len(offset) < 8 else 0
        return Listing(chip, period, "", number)


def worklist(request: Request) -> Response:
    """Studies of a chip and a period."""
    return _worklist(request, Listing.of({n: v for n, v in request.query_params.items() if n != "search"}))


def search(request: Request, form: FormData) -> Response:
    """Studies that match; the words come in the body, since an address is kept and sent on."""
    return _worklist(request, Listing.of({"search": text_of(form, "search")}))


def live_worklist(request: Request, form: FormData) -> Response:
    """The list again, or 204 when it is what the browser has."""
    listing = Listing.of({name: text_of(form, name) for name in ("chip", "period", "search", "offset")})
    part = _worklist_part(site_of(request), listing)
    return live(request, "_worklist.html", seen=text_of(form, "seen"), page_path="/", **part)


def _worklist(request: Request, listing: Listing) -> Response:
    part = _worklist_part(site_of(request), listing)
    return page(request, "worklist.html", "Worklist", part="_worklist.html", **part)


def _worklist_part(site: Site, listing: Listing) -> dict[str, Any]:
    seconds = next(seconds for name, _, seconds in PERIODS if name == listing.period)
    since = site.db.now() - seconds if seconds is not None else None
    by_chip = counts(site.db, since=since)
    found = studies(
        site.db,
        chip=listing.chip,
        search=listing.search or None,
        since=since,
        limit=PAGE_ROWS + 1,
        offset=listing.offset,
    )
    return {
        "listing": listing,
        "chips": [(name, label, by_chip[name]) for name, label, _ in CHIPS],
        "periods": [(name, label) for name, label, _ in PERIODS],
        "rows": [row_line(row) for row in found[:PAGE_ROWS]],
        "newer": max(0, listing.offset - PAGE_ROWS),
        "older": listing.offset + PAGE_ROWS if len(found) > PAGE_ROWS else None,
        "total": counts(site.db)["all"] if not found else by_chip["all"],
        "empty_title": next(empty for name, _, empty in CHIPS if name == listing.chip),
        "keep_days": f"{site.settings.retention.days:g}",
        "port": site.settings.listener.port,
    }


def row_line(row: WorklistRow) -> RowLine:
    """One line of the worklist from its row."""
    study = row.study
    return RowLine(
        id=study.id,
        sign=words.study_sign(study, urgent=row.urgent, has_findings=row.has_findings),
        at=study.last_received_at,
        modalities=words.plain(" ".join(study.modalities)),
        description=words.plain(study.description) or words.plain(study.body_part) or "No description",
        accession=words.plain(study.accession),
        patient=words.person(study.patient_name),
        headline=words.plain(row.headline) if words.has_present_findings(study) else "",
        sentence=words.study_sentence(study, stage=row.stage),
        is_failed=study.outcome == "failed",
        destinations=words.plain(", ".join(row.destinations)),
        delivered=row.delivered,
        deliveries=row.deliveries,
        is_kept=study.outcome == "delivered",
        seconds=row.seconds,
        conflicts=row.conflicts,
        revision=study.revision,
    )
