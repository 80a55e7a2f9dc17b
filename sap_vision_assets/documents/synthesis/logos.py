"""Company emblems: ten shapes, each in many proportions."""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from sap_vision_assets.documents.synthesis.styles import WHITE, Color
from sap_vision_assets.documents.synthesis.typesetting import Block, Drawing

SUPERSAMPLING = 3


@dataclass(frozen=True, slots=True)
class _Canvas:
    """What a shape needs to draw itself."""

    draw: ImageDraw.ImageDraw
    side: int
    main: Color
    second: Color
    ground: Color
    variant: float
    """0 to 1: proportions and details."""


def logo(seed: int, size: float, color: Color, ground: Color = WHITE) -> Block:
    """A company's emblem in a square of `size`; the same seed draws the same emblem at every size."""
    rng = random.Random(seed)
    shape = rng.choice(_SHAPES)
    variant = rng.random()
    red, green, blue = (round(0.45 * c + 0.55 * g) for c, g in zip(color, ground, strict=True))
    second = (red, green, blue)
    side = max(8, round(size))

    def paint(image: Image.Image, x: float, y: float) -> None:
        big = side * SUPERSAMPLING
        tile = Image.new("RGB", (big, big), ground)
        shape(_Canvas(ImageDraw.Draw(tile), big, color, second, ground, variant))
        image.paste(tile.resize((side, side), Image.Resampling.BOX), (round(x), round(y)))

    return Block(side, side, [(0, 0, Drawing(paint))])


def _rings(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    draw.ellipse((0, 0, s - 1, s - 1), fill=canvas.main)
    inset = round((0.14 + 0.07 * v) * s)
    draw.ellipse((inset, inset, s - 1 - inset, s - 1 - inset), fill=canvas.ground)
    draw.ellipse((2 * inset, 2 * inset, s - 1 - 2 * inset, s - 1 - 2 * inset), fill=canvas.second)


def _bars(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    count = 3 + round(v)
    width = s / (count * 1.4)
    for number in range(count):
        left = number * 1.4 * width
        top = s * (1 - (number + 1.5) / (count + 0.5))
        draw.rectangle(
            (left, max(0, top), left + width, s - 1), fill=canvas.main if number % 2 == 0 else canvas.second
        )


def _diamond(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    half = s // 2
    draw.polygon([(half, 0), (s - 1, half), (half, s - 1), (0, half)], fill=canvas.main)
    draw.polygon([(half, 0), (s - 1, half), (half, half)], fill=canvas.second)
    if v > 0.5:
        inner = s // 4
        draw.polygon([(half, inner), (s - inner, half), (half, s - inner), (inner, half)], fill=canvas.ground)


def _tiles(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    gap = round(s * 0.06)
    cell = (s - gap) // 2
    for row in range(2):
        for column in range(2):
            left, top = column * (cell + gap), row * (cell + gap)
            fill = canvas.second if (row + column) % 2 == (v > 0.5) else canvas.main
            draw.rectangle((left, top, left + cell, top + cell), fill=fill)


def _hexagon(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    center = s / 2
    for radius, fill in ((0.5, canvas.main), (0.3 + 0.08 * v, canvas.ground), (0.2, canvas.second)):
        points = [
            (center + radius * s * math.cos(k * math.pi / 3), center + radius * s * math.sin(k * math.pi / 3))
            for k in range(6)
        ]
        draw.polygon(points, fill=fill)


def _peaks(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    draw.polygon([(0, 0.9 * s), (0.38 * s, 0.15 * s), (0.76 * s, 0.9 * s)], fill=canvas.main)
    draw.polygon([(0.42 * s, 0.9 * s), (0.7 * s, (0.3 + 0.15 * v) * s), (s - 1, 0.9 * s)], fill=canvas.second)


def _swoosh(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    draw.pieslice((0, 0, s - 1, s - 1), 200, 380, fill=canvas.main)
    draw.ellipse((0.05 * s, 0.28 * s, 0.95 * s, 1.1 * s), fill=canvas.ground)
    draw.ellipse((0.38 * s, 0.5 * s, (0.66 + 0.1 * v) * s, (0.78 + 0.1 * v) * s), fill=canvas.second)


def _gear(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    center, teeth = s / 2, 8 + round(4 * v)
    points = []
    for tooth in range(4 * teeth):
        radius = s * (0.5 if tooth % 4 < 2 else 0.4)
        angle = 2 * math.pi * tooth / (4 * teeth)
        points.append((center + radius * math.cos(angle), center + radius * math.sin(angle)))
    draw.polygon(points, fill=canvas.main)
    for radius, fill in ((0.26, canvas.ground), (0.13, canvas.second)):
        box = (center - radius * s, center - radius * s, center + radius * s, center + radius * s)
        draw.ellipse(box, fill=fill)


def _slashes(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    lean = (0.25 + 0.15 * v) * s
    for number, fill in enumerate((canvas.main, canvas.second, canvas.main)):
        left = number * 0.25 * s
        draw.polygon(
            [(left + lean, 0), (left + lean + 0.16 * s, 0), (left + 0.16 * s, s - 1), (left, s - 1)],
            fill=fill,
        )


def _shield(canvas: _Canvas) -> None:
    draw, s, v = canvas.draw, canvas.side, canvas.variant
    draw.polygon(
        [
            (0.1 * s, 0.05 * s),
            (0.9 * s, 0.05 * s),
            (0.9 * s, 0.55 * s),
            (0.5 * s, s - 1),
            (0.1 * s, 0.55 * s),
        ],
        fill=canvas.main,
    )
    draw.rectangle(
        (0.1 * s, 0.3 * s, 0.9 * s, (0.4 + 0.1 * v) * s), fill=canvas.second if v > 0.4 else canvas.ground
    )


_SHAPES = (_rings, _bars, _diamond, _tiles, _hexagon, _peaks, _swoosh, _gear, _slashes, _shield)
