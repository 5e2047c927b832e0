"""Small pictures of bars, lines and words: as SVG by hand, as PNG with Pillow where that is installed.

A bar chart needs no plotting library: matplotlib would bring Pillow, numpy and more along. SVG is text and
always works; a PNG needs a font and a rasteriser, which is all that Pillow is for.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.sax.saxutils import escape, quoteattr

Anchor = Literal["start", "middle", "end"]
FONT: Final = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
_SCALE: Final = 2
"""Pixels of a PNG per unit: sharp on a screen with many."""
_PIL_ANCHOR: Final[dict[Anchor, str]] = {"start": "ls", "middle": "ms", "end": "rs"}
_DASH: Final = 5


class NoPillow(Exception):
    """Pillow, which makes PNG files, is not installed."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A filled one; x and y of its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    """#rrggbb."""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight one, across or down."""

    x1: float
    y1: float
    x2: float
    y2: float
    stroke: str
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """One line of text on its baseline."""

    x: float
    y: float
    text: str
    size: int = 12
    anchor: Anchor = "start"
    fill: str = "#333333"


Shape = Rectangle | Line | Words


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes on white, later ones over earlier ones."""

    width: int
    height: int
    title: str
    """For those who cannot see it."""
    shapes: Sequence[Shape]

    def to_svg(self) -> str:
        """Return an SVG 1.1 document that refers to nothing outside itself."""
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family={quoteattr(FONT)}>',
            f"<title>{escape(self.title)}</title>",
            f'<rect width="{self.width}" height="{self.height}" fill="#ffffff"/>',
            *map(_svg, self.shapes),
            "</svg>",
        ]
        return "\n".join(lines) + "\n"

    def to_png(self) -> bytes:
        """Return a PNG file.

        Raises:
            NoPillow: It cannot be made here.
        """
        try:
            from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 (an extra: SVG needs none of it)
        except ImportError:
            raise NoPillow from None
        image = Image.new("RGB", (self.width * _SCALE, self.height * _SCALE), "#ffffff")
        draw = ImageDraw.Draw(image)
        for shape in self.shapes:
            match shape:
                case Rectangle():
                    left, top = shape.x * _SCALE, shape.y * _SCALE
                    right, bottom = left + shape.width * _SCALE - 1, top + shape.height * _SCALE - 1
                    draw.rectangle((left, top, max(left, right), max(top, bottom)), fill=shape.fill)
                case Line():
                    for x1, y1, x2, y2 in _dashes(shape):
                        ends = (x1 * _SCALE, y1 * _SCALE, x2 * _SCALE, y2 * _SCALE)
                        draw.line(ends, fill=shape.stroke, width=_SCALE)
                case Words():
                    font = ImageFont.load_default(shape.size * _SCALE)
                    place = (shape.x * _SCALE, shape.y * _SCALE)
                    draw.text(place, shape.text, fill=shape.fill, font=font, anchor=_PIL_ANCHOR[shape.anchor])
        made = io.BytesIO()
        image.save(made, "PNG", optimize=True)
        return made.getvalue()


def _svg(shape: Shape) -> str:
    match shape:
        case Rectangle(x, y, width, height, fill):
            size = f'width="{width:.2f}" height="{height:.2f}"'
            return f'<rect x="{x:.2f}" y="{y:.2f}" {size} fill={quoteattr(fill)}/>'
        case Line(x1, y1, x2, y2, stroke, is_dashed):
            ends = f'x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"'
            dash = f' stroke-dasharray="{_DASH},{_DASH}"' if is_dashed else ""
            return f"<line {ends} stroke={quoteattr(stroke)}{dash}/>"
        case Words(x, y, text, size, anchor, fill):
            place = f'x="{x:.2f}" y="{y:.2f}" font-size="{size}" text-anchor="{anchor}"'
            return f"<text {place} fill={quoteattr(fill)}>{escape(text)}</text>"


def _dashes(line: Line) -> list[tuple[float, float, float, float]]:
    if not line.is_dashed:
        return [(line.x1, line.y1, line.x2, line.y2)]
    dx, dy = line.x2 - line.x1, line.y2 - line.y1
    length = abs(dx) + abs(dy)  # across or down
    parts: list[tuple[float, float, float, float]] = []
    at = 0.0
    while at < length:
        a, b = at / length, min(at + _DASH, length) / length
        parts.append((line.x1 + a * dx, line.y1 + a * dy, line.x1 + b * dx, line.y1 + b * dy))
        at += 2 * _DASH
    return parts
