"""One line of the doctor."""

from dataclasses import dataclass

from config.errors import PrereadError


@dataclass(frozen=True)
class CheckResult:
    """One line of the doctor. `remedy` is what to do when `ok` is False."""

    name: str
    ok: bool
    detail: str
    remedy: str | None = None


def in_words(error: PrereadError) -> str:
    """Where and what, without the remedy, which stands beside it."""
    return f"{error.where}: {error.what}" if error.where else error.what
