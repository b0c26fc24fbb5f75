"""What a heat map must reach before a package may show it; fixed before anything was measured.

No torch here: the manifest judges the figures that a package declares by the same numbers.
"""

from __future__ import annotations

from typing import Final

# Energy inside the lesion against the lesion's share of the image: 1 is what a map without knowledge has.
ENERGY_RATIO_MIN: Final = 2.0
# Likeness (SSIM) of the map of an image and of the same image moved by two pixels, moved back.
SHIFT_SSIM_MIN: Final = 0.8
SHIFT_PIXELS: Final = 2
