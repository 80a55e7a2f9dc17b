"""What scanners, copiers and fax machines do to a page, with the word boxes following.

The page turns, shifts and shears by one affine map, so a box after damage is the bounding box of its mapped corners.
Everything else changes pixels only.
"""

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Box = tuple[float, float, float, float]
Affine = tuple[float, float, float, float, float, float]
"""x' = a x + b y + c, y' = d x + e y + f."""

LEVELS = {"clean": 0.35, "light": 0.45, "medium": 0.15, "heavy": 0.05}
_NOISE_SLACK = 64


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Strengths; the defaults leave a page as it is."""

    degrees: float = 0.0
    shift_x: float = 0.0
    """Share of the page's width."""
    shift_y: float = 0.0
    shear: float = 0.0
    stretch: float = 1.0
    """Height after the scan, over the height before it."""
    grey: bool = False
    blur: float = 0.0
    """Radius in pixels of a 100 dpi page."""
    fade: float = 0.0
    """Share by which ink gets lighter."""
    paper: int = 255
    """Grey value of the paper."""
    shadow: float = 0.0
    shadow_angle: float = 0.0
    noise: float = 0.0
    """Standard deviation in grey values."""
    specks: int = 0
    streaks: int = 0
    punch_holes: bool = False
    fax: bool = False
    jpeg_quality: int = 95
    seed: int = 0


def choose_damage(rng: random.Random) -> Damage:
    """A third of the pages stay clean digital prints; few are damaged heavily."""
    level = rng.choices(list(LEVELS), list(LEVELS.values()))[0]
    if level == "clean":
        return Damage(grey=rng.random() < 0.1, seed=rng.getrandbits(32))
    strength = {"light": 0.4, "medium": 0.8, "heavy": 1.2}[level]
    fax = level != "light" and rng.random() < 0.25
    return Damage(
        degrees=rng.gauss(0, 0.6) * strength if rng.random() < 0.8 else rng.uniform(-1.6, 1.6) * strength,
        shift_x=rng.uniform(-0.008, 0.008) * strength,
        shift_y=rng.uniform(-0.008, 0.008) * strength,
        shear=rng.gauss(0, 0.003) * strength,
        stretch=1 + rng.gauss(0, 0.004) * strength,
        grey=rng.random() < 0.7,
        blur=rng.uniform(0.2, 0.8) * strength,
        fade=rng.uniform(0, 0.35) * strength if rng.random() < 0.4 else 0.0,
        paper=255 if rng.random() < 0.4 else rng.randint(round(252 - 20 * strength), 252),
        shadow=rng.uniform(0.02, 0.14) * strength if rng.random() < 0.5 else 0.0,
        shadow_angle=rng.uniform(0, 2 * math.pi),
        noise=rng.uniform(1, 7) * strength,
        specks=rng.randint(0, round(60 * strength)) if rng.random() < 0.5 else 0,
        streaks=1 if rng.random() < 0.08 * strength else 0,
        punch_holes=rng.random() < 0.06,
        fax=fax,
        jpeg_quality=rng.randint(round(88 - 35 * strength), 88),
        seed=rng.getrandbits(32),
    )


def apply_damage(
    image: Image.Image, boxes_px: Sequence[Box], damage: Damage
) -> tuple[Image.Image, list[Box]]:
    """The damaged page (grey or RGB, same size) and its boxes, clipped to the page."""
    rng = random.Random(damage.seed)
    if damage.grey or damage.fax:
        image = image.convert("L")
    forward = _affine(damage, image.size)
    boxes = [_mapped(box, forward, image.size) for box in boxes_px]
    if damage.punch_holes:
        _punch(image, rng)
    if forward != (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
        image = image.transform(
            image.size,
            Image.Transform.AFFINE,
            _inverse(forward),
            Image.Resampling.BILINEAR,
            fillcolor=_white(image),
        )
    if damage.blur > 0.1:
        image = image.filter(ImageFilter.BoxBlur(damage.blur * image.width / 827))
    image = _tone(image, damage)
    if damage.shadow:
        image = _shadow(image, damage)
    if damage.noise:
        image = _noise(image, damage, rng)
    _dirt(image, damage, rng)
    if damage.fax:
        image = _fax(image)
    return image, boxes


def encode(image: Image.Image, damage: Damage) -> bytes:
    """JPEG bytes in the damage's quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=damage.jpeg_quality)
    return buffer.getvalue()


def _affine(damage: Damage, size: tuple[int, int]) -> Affine:
    """About the page's centre: stretch, shear, turn, shift."""
    if not (damage.degrees or damage.shear or damage.shift_x or damage.shift_y) and damage.stretch == 1.0:
        return 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
    cos, sin = math.cos(math.radians(damage.degrees)), math.sin(math.radians(damage.degrees))
    a, b = cos, cos * damage.shear - sin * damage.stretch
    d, e = sin, sin * damage.shear + cos * damage.stretch
    x, y = size[0] / 2, size[1] / 2
    c = x + damage.shift_x * size[0] - a * x - b * y
    f = y + damage.shift_y * size[1] - d * x - e * y
    return a, b, c, d, e, f


def _inverse(affine: Affine) -> Affine:
    a, b, c, d, e, f = affine
    determinant = a * e - b * d
    ia, ib, id_, ie = e / determinant, -b / determinant, -d / determinant, a / determinant
    return ia, ib, -(ia * c + ib * f), id_, ie, -(id_ * c + ie * f)


def _mapped(box: Box, affine: Affine, size: tuple[int, int]) -> Box:
    a, b, c, d, e, f = affine
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (left, bottom), (right, bottom)]
    xs = [min(max(a * x + b * y + c, 0.0), float(size[0])) for x, y in corners]
    ys = [min(max(d * x + e * y + f, 0.0), float(size[1])) for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def _white(image: Image.Image) -> int | tuple[int, int, int]:
    return 255 if image.mode == "L" else (255, 255, 255)


def _tone(image: Image.Image, damage: Damage) -> Image.Image:
    """Lighter ink and greyer paper, in one table."""
    if not damage.fade and damage.paper == 255:
        return image
    black = 255 * 0.6 * damage.fade
    table = [round(black + (damage.paper - black) * value / 255) for value in range(256)]
    return image.point(table * len(image.getbands()))


@cache
def _noise_sheet(width: int, height: int) -> Image.Image:
    """Gaussian noise about 128 with a standard deviation of 32, larger than a page; drawn once a process."""
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((height, width), np.float32) * 32 + 128
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


def _noise(image: Image.Image, damage: Damage, rng: random.Random) -> Image.Image:
    sheet = _noise_sheet(image.width + _NOISE_SLACK, image.height + _NOISE_SLACK)
    left, top = rng.randrange(_NOISE_SLACK), rng.randrange(_NOISE_SLACK)
    part = sheet.crop((left, top, left + image.width, top + image.height))
    part = part.point([round(128 + (value - 128) * damage.noise / 32) for value in range(256)])
    return ImageChops.add(image, Image.merge(image.mode, [part] * len(image.getbands())), offset=-128)


def _shadow(image: Image.Image, damage: Damage) -> Image.Image:
    """Darker towards one edge, as where a book's fold lifts the paper."""
    along = math.cos(damage.shadow_angle) * np.linspace(-1, 1, 32)
    down = math.sin(damage.shadow_angle) * np.linspace(-1, 1, 32)
    reach = np.clip(along[None, :] + down[:, None], 0, None) ** 2
    light = Image.fromarray(np.clip(255 - reach * damage.shadow * 160, 0, 255).astype(np.uint8))
    light = light.resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(image, Image.merge(image.mode, [light] * len(image.getbands())))


def _dirt(image: Image.Image, damage: Damage, rng: random.Random) -> None:
    for _ in range(damage.specks):
        x, y = rng.randrange(image.width), rng.randrange(image.height)
        side = rng.choice((1, 1, 1, 2))
        shade = rng.randint(40, 190)
        image.paste(shade if image.mode == "L" else (shade,) * 3, (x, y, x + side, y + side))
    for _ in range(damage.streaks):
        x = rng.randrange(image.width)
        strip = image.crop((x, 0, x + 1, image.height))
        image.paste(ImageChops.multiply(strip, Image.new(strip.mode, strip.size, _light(image))), (x, 0))


def _light(image: Image.Image) -> int | tuple[int, int, int]:
    return 200 if image.mode == "L" else (200, 200, 200)


def _punch(image: Image.Image, rng: random.Random) -> None:
    """Two holes of 6 mm, 80 mm apart, 12 mm from the left edge, as a scanner sees them."""
    per_mm = image.width / 210
    radius = 3 * per_mm
    shade = rng.randint(30, 120)
    side = round(2 * radius) * 4
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    mask = mask.resize((side // 4, side // 4), Image.Resampling.BOX)
    for offset in (-40, 40):
        left, top = round(12 * per_mm - radius), round(image.height / 2 + offset * per_mm - radius)
        image.paste(shade if image.mode == "L" else (shade,) * 3, (left, top), mask)


def _fax(image: Image.Image) -> Image.Image:
    """One bit a pixel at the page's resolution, grey where a viewer scaled it."""
    black = image.point([0 if value < 165 else 255 for value in range(256)])
    return black.filter(ImageFilter.BoxBlur(0.4))
