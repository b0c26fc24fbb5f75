"""PURE: what an archive counted of one series, asked while other series of its study still come."""

from dataclasses import dataclass, replace

ASK_SECONDS = (5.0, 10.0)  # after its last instance; between two answers; both less in a short quiet period
ASKED_MAX = 3  # for one last instance: after that the end of the study is waited for


@dataclass(frozen=True, slots=True)
class SeriesCount:
    """Answers since the last instance of the series, which came at `since`.

    `equal` counts the latest answers in a row that said `number`.
    """

    since: float
    number: int = 0
    equal: int = 0
    asked: int = 0
    answered_at: float = 0.0

    @property
    def settled(self) -> int | None:
        """What was said twice in a row; None: nothing was."""
        return self.number if self.equal >= 2 else None


def counted_again(known: SeriesCount, number: int | None, *, asked_of: float, now: float) -> SeriesCount:
    """After an answer to a question of `asked_of`, when that was the last instance of the study.

    `number` is None when there was no answer. A question before the last instance of the series says nothing.
    """
    if asked_of < known.since:
        return known
    known = replace(known, asked=known.asked + 1, answered_at=now)
    if number is None:
        return replace(known, equal=0)
    return replace(known, number=number, equal=known.equal + 1 if number == known.number else 1)


def ask_at(known: SeriesCount, quiet_seconds: float) -> float | None:
    """When to ask next; None: not again before another instance of the series comes."""
    if not known.asked:
        return known.since + min(ASK_SECONDS[0], quiet_seconds / 3)
    if known.equal != 1 or known.asked >= ASKED_MAX:  # an archive that is away is asked for the study alone
        return None
    return known.answered_at + min(ASK_SECONDS[1], quiet_seconds / 3)
