"""What scanners, copiers and fax machines do to a page, with the word boxes following.

The page turns, shifts and leans by one homography, so a box after damage is the bounding box of its mapped
corners. Everything else changes pixels only.
"""

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Box = tuple[float, float, float, float]
Matrix = NDArray[np.float64]

LEVELS = {"clean": 0.35, "light": 0.4, "medium": 0.19, "heavy": 0.06}
"""Shares of the pages."""
STOCKS = ((253, 244, 190), (250, 214, 218), (205, 232, 208), (206, 224, 242), (246, 238, 222))
"""Yellow, pink, green and blue copies, and recycled paper."""
_STRENGTHS = {"light": 0.4, "medium": 0.8, "heavy": 1.2}
_NOISE_SLACK = 64


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Strengths; the defaults leave a page as it is."""

    degrees: float = 0.0
    """Clockwise."""
    shift_x: float = 0.0
    """Share of the page's width."""
    shift_y: float = 0.0
    shear: float = 0.0
    stretch: float = 1.0
    """Height after the scan, over the height before it."""
    keystone: float = 0.0
    """How much narrower the page's foot is than its head, as a share."""
    surround: int = 255
    """Grey value of what lies beside the paper."""
    grey: bool = False
    blur: float = 0.0
    """Radius in pixels of a 100 dpi page."""
    fade: float = 0.0
    """Share by which ink gets lighter."""
    paper: int = 255
    """Grey value of the paper."""
    stock: tuple[int, int, int] = (255, 255, 255)
    """Colour of the paper itself, such as a yellow carbon copy."""
    shadow: float = 0.0
    """Share of the light that is missing at the darkest edge."""
    shadow_angle: float = 0.0
    noise: float = 0.0
    """Standard deviation in grey values."""
    specks: int = 0
    streaks: int = 0
    punch_holes: bool = False
    fax: bool = False
    jpeg_quality: int = 85
    seed: int = 0


def choose_damage(rng: random.Random) -> Damage:
    """A third of the pages stay clean digital prints; few are damaged heavily."""
    level = rng.choices(list(LEVELS), list(LEVELS.values()))[0]
    if level == "clean":
        return Damage(grey=rng.random() < 0.1, jpeg_quality=rng.randint(80, 92), seed=rng.getrandbits(32))
    strength = _STRENGTHS[level]

    def sometimes(share: float, value: float) -> float:
        return value if rng.random() < share else 0.0

    fax = level != "light" and rng.random() < 0.25
    return Damage(
        degrees=min(2.0, max(-2.0, rng.gauss(0, 0.8) * strength)),
        shift_x=rng.uniform(-0.008, 0.008) * strength,
        shift_y=rng.uniform(-0.008, 0.008) * strength,
        shear=rng.gauss(0, 0.002) * strength,
        stretch=1 + rng.gauss(0, 0.004) * strength,
        keystone=sometimes(0.25, rng.gauss(0, 0.006) * strength),
        surround=rng.randint(30, 110) if rng.random() < 0.12 else 255,
        grey=rng.random() < 0.7,
        blur=rng.uniform(0.2, 0.8) * (0.4 if fax else strength),
        fade=0.0 if fax else sometimes(0.4, rng.uniform(0, 0.35) * strength),
        paper=255 if rng.random() < 0.4 else rng.randint(round(252 - 20 * strength), 252),
        stock=rng.choice(STOCKS) if rng.random() < 0.05 else (255, 255, 255),
        shadow=sometimes(0.5, rng.uniform(0.04, 0.28) * strength),
        shadow_angle=rng.uniform(0, 2 * math.pi),
        noise=rng.uniform(0.5, 5.5) * strength,
        specks=round(sometimes(0.5, rng.uniform(0, 60) * strength)),
        streaks=int(rng.random() < 0.08 * strength),
        punch_holes=rng.random() < 0.07,
        fax=fax,
        jpeg_quality=rng.randint(round(84 - 30 * strength), 84),
        seed=rng.getrandbits(32),
    )


def apply_damage(
    image: Image.Image, boxes_px: Sequence[Box], damage: Damage
) -> tuple[Image.Image, list[Box]]:
    """The damaged page (grey or RGB, same size) and its boxes, clipped to the page."""
    rng = random.Random(damage.seed)
    if damage.grey or damage.fax:
        image = image.convert("L")
    if damage.punch_holes:
        _punch(image, rng)
    forward = _homography(damage, image.size)
    if not np.array_equal(forward, np.eye(3)):
        back = np.linalg.inv(forward)
        coefficients = (back / back[2, 2]).ravel()[: 8 if damage.keystone else 6].tolist()
        image = image.transform(
            image.size,
            Image.Transform.PERSPECTIVE if damage.keystone else Image.Transform.AFFINE,
            coefficients,
            Image.Resampling.BILINEAR,
            fillcolor=_grey(image, damage.surround),
        )
    if damage.blur > 0.1:
        image = image.filter(ImageFilter.BoxBlur(damage.blur * image.width / 827))
    if damage.fade or damage.paper < 255 or min(damage.stock) < 255:
        image = _toned(image, damage)
    if damage.shadow:
        image = _shadowed(image, damage)
    if damage.noise:
        image = _noisy(image, damage, rng)
    _soil(image, damage, rng)
    return _faxed(image) if damage.fax else image, _moved(boxes_px, forward, image.size)


def encode(image: Image.Image, damage: Damage) -> bytes:
    """JPEG bytes in the damage's quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=damage.jpeg_quality)
    return buffer.getvalue()


def _homography(damage: Damage, size: tuple[int, int]) -> Matrix:
    """Maps (x, y, 1) before to after, about the page's centre: stretch, lean, turn, shift."""
    width, height = size
    cos, sin = math.cos(math.radians(damage.degrees)), math.sin(math.radians(damage.degrees))
    center = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1.0]])
    lean = np.array([[1, damage.shear, 0], [0, damage.stretch, 0], [0, damage.keystone / height, 1.0]])
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    place = np.array(
        [[1, 0, (0.5 + damage.shift_x) * width], [0, 1, (0.5 + damage.shift_y) * height], [0, 0, 1.0]]
    )
    matrix: Matrix = place @ turn @ lean @ center
    return matrix


def _moved(boxes_px: Sequence[Box], forward: Matrix, size: tuple[int, int]) -> list[Box]:
    """Bounding boxes of the mapped corners, inside the page."""
    if np.array_equal(forward, np.eye(3)) or not boxes_px:
        return list(boxes_px)
    left, top, right, bottom = np.array(boxes_px, dtype=float).T
    corners = np.array([[left, right, left, right], [top, top, bottom, bottom], np.ones((4, len(left)))])
    x, y, scale = np.einsum("ij,jkn->ikn", forward, corners)
    x, y = np.clip(x / scale, 0, size[0]), np.clip(y / scale, 0, size[1])
    moved = np.stack([x.min(0), y.min(0), x.max(0), y.max(0)], axis=1)
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in moved]


def _grey(image: Image.Image, value: int) -> int | tuple[int, int, int]:
    return value if image.mode == "L" else (value, value, value)


def _toned(image: Image.Image, damage: Damage) -> Image.Image:
    """Lighter ink and greyer or coloured paper, in one table."""
    black = 255 * 0.6 * damage.fade
    grey = sum(damage.stock) / 3
    papers = [damage.paper * share / 255 for share in ((grey,) if image.mode == "L" else damage.stock)]
    table = [round(black + (paper - black) * value / 255) for paper in papers for value in range(256)]
    return image.point(table)


@cache
def _noise_sheet(width: int, height: int) -> Image.Image:
    """Gaussian noise about 128 with a standard deviation of 32, larger than a page; drawn once a process."""
    noise = np.random.default_rng(7).standard_normal((height, width), np.float32) * 32 + 128
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


def _noisy(image: Image.Image, damage: Damage, rng: random.Random) -> Image.Image:
    sheet = _noise_sheet(image.width + _NOISE_SLACK, image.height + _NOISE_SLACK)
    left, top = rng.randrange(_NOISE_SLACK), rng.randrange(_NOISE_SLACK)
    part = sheet.crop((left, top, left + image.width, top + image.height))
    part = part.point([round(128 + (value - 128) * damage.noise / 32) for value in range(256)])
    return ImageChops.add(image, Image.merge(image.mode, [part] * len(image.getbands())), offset=-128)


def _shadowed(image: Image.Image, damage: Damage) -> Image.Image:
    """Darker towards one edge or corner, as where a fold lifts the paper off the glass."""
    along = math.cos(damage.shadow_angle) * np.linspace(-1, 1, 32)
    down = math.sin(damage.shadow_angle) * np.linspace(-1, 1, 32)
    reach = np.clip(along[None, :] + down[:, None], 0, None) ** 2
    light = Image.fromarray((255 * (1 - damage.shadow * reach / 2)).clip(0, 255).astype(np.uint8))
    light = light.resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(image, Image.merge(image.mode, [light] * len(image.getbands())))


def _soil(image: Image.Image, damage: Damage, rng: random.Random) -> None:
    """Specks of dust, and the line that a dirty spot on a document feeder's glass draws."""
    for _ in range(damage.specks):
        x, y = rng.randrange(image.width), rng.randrange(image.height)
        side = rng.choice((1, 1, 1, 2))
        image.paste(_grey(image, rng.randint(40, 190)), (x, y, x + side, y + side))
    for _ in range(damage.streaks):
        x = rng.randrange(image.width)
        strip = image.crop((x, 0, x + 1, image.height))
        image.paste(ImageChops.multiply(strip, Image.new(strip.mode, strip.size, _grey(image, 200))), (x, 0))


def _punch(image: Image.Image, rng: random.Random) -> None:
    """Two holes of 6 mm, 80 mm apart, 12 mm from the left edge, as a scanner with a dark lid sees them."""
    per_mm = image.width / 210
    side = round(6 * per_mm)
    mask = Image.new("L", (4 * side, 4 * side), 0)
    ImageDraw.Draw(mask).ellipse((0, 0, 4 * side - 1, 4 * side - 1), fill=255)
    mask = mask.resize((side, side), Image.Resampling.BOX)
    shade = _grey(image, rng.randint(30, 120))
    for offset in (-40, 40):
        left, top = round(9 * per_mm), round(image.height / 2 + (offset - 3) * per_mm)
        image.paste(shade, (left, top), mask)


def _faxed(image: Image.Image) -> Image.Image:
    """One bit a pixel at twice the resolution, by a threshold that follows the surroundings; scaled down."""
    double = image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC)
    threshold = double.filter(ImageFilter.BoxBlur(8)).point([round(0.88 * value) for value in range(256)])
    white = ImageChops.subtract(double, threshold).point([0] + [255] * 255)
    return white.resize(image.size, Image.Resampling.BOX)
