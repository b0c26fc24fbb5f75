"""PURE: colours of lesions: from the package's CIELab colour to one per lesion.

The first lesion has the package's colour; each further one keeps its lightness and turns the hue by the
golden angle, so that neighbours differ however many there are. Pictures and SEG use the same colours.
"""

from __future__ import annotations

import math
from typing import Final

from models.screen_colours import Lab

_GOLDEN_ANGLE: Final = math.radians(137.508)
_CHROMA_MIN: Final = 45.0  # a grey package colour would make all lesions alike


def lesion_colour(first: Lab, number: int) -> Lab:
    """Colour of lesion `number` (1-based): L 0..100, a and b -128..127."""
    if number == 1:
        return first
    light, a, b = first
    chroma = max(math.hypot(a, b), _CHROMA_MIN)
    hue = math.atan2(b, a) + (number - 1) * _GOLDEN_ANGLE
    return light, chroma * math.cos(hue), chroma * math.sin(hue)
