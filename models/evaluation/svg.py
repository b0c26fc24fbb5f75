"""PURE small SVG drawings: a frame with ticks, lines, dots and words, coloured by the page's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]


def tag(name: str, text: str | None = None, **attributes: str | float) -> Markup:
    """One element; underscores in attribute names become dashes, a trailing one is dropped."""
    words = " ".join(
        f'{key.rstrip("_").replace("_", "-")}="{escape(shown(value))}"' for key, value in attributes.items()
    )
    if text is None:
        return Markup(f"<{name} {words}/>")
    return Markup(f"<{name} {words}>{escape(text)}</{name}>")


def shown(value: str | float) -> str:
    """An attribute; numbers to a tenth of a pixel."""
    return value if isinstance(value, str) else f"{value:.1f}"


def drawing(width: float, height: float, title: str, parts: Sequence[Markup]) -> Markup:
    """A drawing that says in words what it shows."""
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}" '
        f'style="max-width:{width:g}px">{"".join(parts)}</svg>'
    )


@dataclass
class Plot:
    """A square of data in a frame.

    x_ticks, y_ticks : (place from 0 to 1, words)
    """

    title: str
    x_words: str
    y_words: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    width: float = 340
    height: float = 300
    parts: list[Markup] = field(default_factory=list)

    left, right, top, bottom = 52.0, 12.0, 10.0, 44.0

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a place in the frame, both from 0 to 1."""
        across = self.width - self.left - self.right
        down = self.height - self.top - self.bottom
        return self.left + x * across, self.top + (1 - y) * down

    def line(self, points: Points, kind: str) -> None:
        """A line through places in the frame; `kind` is a class of the page."""
        places = " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in points)
        self.parts.append(tag("polyline", points=places, class_=kind))

    def dot(self, x: float, y: float, kind: str, radius: float = 4) -> None:
        """A dot."""
        left, top = self.at(x, y)
        self.parts.append(tag("circle", cx=left, cy=top, r=radius, class_=kind))

    def bar(self, x: float, low: float, high: float, kind: str) -> None:
        """An upright line, such as an interval."""
        self.line([(x, low), (x, high)], kind)

    def svg(self) -> Markup:
        """The finished drawing."""
        (x0, y0), (x1, y1) = self.at(0, 0), self.at(1, 1)
        frame = [tag("rect", x=x0, y=y1, width=x1 - x0, height=y0 - y1, class_="frame")]
        for place, words in self.x_ticks:
            x, _ = self.at(place, 0)
            frame.append(tag("line", x1=x, x2=x, y1=y0, y2=y1, class_="grid"))
            frame.append(tag("text", words, x=x, y=y0 + 15, text_anchor="middle"))
        for place, words in self.y_ticks:
            _, y = self.at(0, place)
            frame.append(tag("line", x1=x0, x2=x1, y1=y, y2=y, class_="grid"))
            frame.append(tag("text", words, x=x0 - 6, y=y + 4, text_anchor="end"))
        middle = (x0 + x1) / 2
        frame.append(tag("text", self.x_words, x=middle, y=self.height - 8, text_anchor="middle"))
        turn = f"translate(13 {(y0 + y1) / 2:.0f}) rotate(-90)"
        frame.append(tag("text", self.y_words, transform=turn, text_anchor="middle"))
        return drawing(self.width, self.height, self.title, [*frame, *self.parts])
