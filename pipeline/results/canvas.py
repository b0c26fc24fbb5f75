"""What summary pictures are drawn with: colours for a dark room, the font inside Pillow, wrapped text."""

from __future__ import annotations

import unicodedata
from typing import Final

from PIL import Image, ImageDraw, ImageFont

Rgb = tuple[int, int, int]

# No pure white and no pure black: pictures hang beside images in a dark room. Text contrast is above 7:1.
BACKGROUND: Final[Rgb] = (13, 16, 20)
PANEL: Final[Rgb] = (0, 0, 0)
LINE: Final[Rgb] = (52, 60, 69)
TEXT: Final[Rgb] = (214, 220, 226)
DIM: Final[Rgb] = (150, 160, 170)
CAUTION: Final[Rgb] = (232, 170, 80)
URGENT: Final[Rgb] = (240, 112, 84)
CALM: Final[Rgb] = (112, 160, 200)


# The font has ASCII and little more; these are what our words need besides.
_IN_FONT: Final = frozenset("·…°±")
_SPELLINGS: Final = str.maketrans({"×": "x", "–": "-", "—": "-", "≥": ">=", "≤": "<=", "µ": "u"})


def spelled(words: str) -> str:
    """Words in characters the font has: accents are dropped, what has no Latin letter becomes "?"."""
    found = []
    for character in words.translate(_SPELLINGS):
        if character in _IN_FONT:
            found.append(character)
            continue
        base = unicodedata.normalize("NFKD", character)[0]
        found.append(base if " " <= base <= "~" else "?")
    return "".join(found)


def font(size: int) -> ImageFont.FreeTypeFont:
    """The font inside Pillow, so that a picture is the same on every machine.

    Raises
    ------
    RuntimeError
        Pillow was built without FreeType, which its wheels have.
    """
    found = ImageFont.load_default(size)
    if not isinstance(found, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow has no FreeType; install the wheel from the package index")
    return found


class Canvas:
    """An RGB picture with text in one font."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), BACKGROUND)
        self.draw = ImageDraw.Draw(self.image)

    def text(
        self, place: tuple[int, int], words: str, size: int, colour: Rgb = TEXT, *, right: bool = False
    ) -> None:
        """Text with its upper left corner at `place`, or with its upper right corner."""
        self.draw.text(place, spelled(words), font=font(size), fill=colour, anchor="ra" if right else "la")

    def paragraph(
        self,
        place: tuple[int, int],
        words: str,
        size: int,
        *,
        width: int,
        lines_max: int,
        colour: Rgb = DIM,
    ) -> int:
        """Text wrapped to `width`; what does not fit ends in an ellipsis. Returns the y below it."""
        x, y = place
        for line in wrapped(words, size, width=width, lines_max=lines_max):
            self.text((x, y), line, size, colour)
            y += round(size * 1.35)
        return y


def wrapped(words: str, size: int, *, width: int, lines_max: int) -> list[str]:
    """Lines of at most `width` pixels; the last ends in an ellipsis when there was more."""
    measure = font(size).getlength
    words = spelled(words)
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and measure(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) <= lines_max:
        return lines
    last = lines[lines_max - 1]
    while last and measure(f"{last} …") > width:
        last = last.rpartition(" ")[0]
    return [*lines[: lines_max - 1], f"{last} …"]
