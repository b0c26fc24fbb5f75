"""PURE: when a run has stopped getting better, and which of its judgements was the best."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Best:
    """The best judgement so far."""

    score: float | None = None
    step: int = 0
    since: int = 0  # judgements in a row that were no better

    def after(self, score: float, step: int) -> Best:
        """With one more judgement; only a strictly better score counts."""
        if self.score is None or score > self.score:
            return Best(score, step, 0)
        return Best(self.score, self.step, self.since + 1)

    def has_run_out(self, patience: int | None) -> bool:
        """Whether so many judgements brought nothing that the run ends; without patience it never does."""
        return patience is not None and self.since >= patience
