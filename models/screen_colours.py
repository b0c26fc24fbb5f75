"""PURE: what a screen shows of a package's CIELab colours (CIELab with the D65 white of sRGB)."""

from __future__ import annotations

from typing import Final

Lab = tuple[float, float, float]  # L 0..100, a and b -128..127
Rgb = tuple[int, int, int]

_WHITE_D65: Final = (0.95047, 1.0, 1.08883)
_TO_LINEAR_RGB: Final = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)


def to_rgb(colour: Lab) -> Rgb:
    """The nearest colour of an sRGB screen (IEC 61966-2-1)."""
    light, a, b = colour
    f_y = (light + 16) / 116
    xyz = tuple(
        white * _inverse(f) for white, f in zip(_WHITE_D65, (f_y + a / 500, f_y, f_y - b / 200), strict=True)
    )
    red, green, blue = (
        _companded(sum(factor * part for factor, part in zip(row, xyz, strict=True)))
        for row in _TO_LINEAR_RGB
    )
    return red, green, blue


def _inverse(f: float) -> float:
    return f**3 if f > 6 / 29 else 3 * (6 / 29) ** 2 * (f - 4 / 29)


def _companded(linear: float) -> int:
    bounded = min(max(linear, 0.0), 1.0)
    value = 12.92 * bounded if bounded <= 0.0031308 else 1.055 * bounded ** (1 / 2.4) - 0.055
    return round(255 * value)
