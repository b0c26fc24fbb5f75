"""PURE: how long a peer pauses within a study, learnt from its studies, and the quiet period that follows.

Each study gives one observation for its peer and modality: its longest pause, late images included. So a
quiet period that became too short shows in longer pauses and grows again. The estimate is the second largest
of thirty (a quantile), so that one study that lay around does not decide, times a safety factor, within the
bounds that the site set.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from config.settings import ListenerSettings
from db.records import StudyPause

QUANTILE = 0.95
SAFETY = 2.0
STUDIES_MAX = 200  # the newest of a peer and modality: a peer that changed is learnt anew


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a learnt quiet period may be, in seconds, and the observations it needs."""

    least: float
    most: float
    studies_min: int

    @staticmethod
    def of(settings: ListenerSettings) -> "Bounds":
        """As a site set them."""
        return Bounds(
            settings.quiet_learnt_seconds_min,
            settings.quiet_learnt_seconds_max,
            settings.quiet_learnt_studies_min,
        )


@dataclass(frozen=True, slots=True)
class Rhythm:
    """A learnt quiet period, from how many studies and from which pause; seconds."""

    quiet_seconds: float
    studies: int
    pause: float


def learnt(pauses: Sequence[float], bounds: Bounds) -> Rhythm | None:
    """The rhythm behind the longest pauses of some studies; None: they are too few."""
    if len(pauses) < max(1, bounds.studies_min):
        return None
    pause = sorted(pauses)[math.ceil(QUANTILE * len(pauses)) - 1]
    seconds = min(bounds.most, max(bounds.least, SAFETY * pause))
    return Rhythm(seconds, len(pauses), pause)


def rhythms_of(pauses: Iterable[StudyPause], bounds: Bounds) -> Mapping[tuple[str, str], Rhythm]:
    """Rhythms by AE title and modality; `pauses` come newest first."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in pauses:
        for modality in one.modalities:
            if len(found[one.source_ae, modality]) < STUDIES_MAX:
                found[one.source_ae, modality].append(one.seconds)
    rhythms = {key: learnt(seconds, bounds) for key, seconds in found.items()}
    return {key: rhythm for key, rhythm in rhythms.items() if rhythm is not None}
