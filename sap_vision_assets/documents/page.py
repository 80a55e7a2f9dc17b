"""Page images: untrusted bytes become upright 8-bit RGB over white, or a DocumentError that says why not.

What can be decided from the header is decided before a pixel is decoded, so a bomb costs no memory.
"""

import hashlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from sap_vision_assets.documents.annotation import BOX_MAX, Box
from sap_vision_assets.documents.config import DatasetConfig
from sap_vision_assets.documents.reasons import DocumentError, RejectReason, described
from sap_vision_assets.documents.structure import check_png_pixels, check_structure, sniff_format

_BAND_ROWS = 256
_PLAIN_MODES = ("1", "L", "P", "RGB")
"""Modes that any reader turns into the same RGB, so the file is kept as it is."""

_WARNINGS_LOCK = threading.RLock()


@dataclass(frozen=True)
class Page:
    """A decoded page."""

    image: Image.Image
    """Mode "L" or "RGB", upright, nothing transparent. "L" is grey: its RGB has three equal channels."""
    stored_size: tuple[int, int]
    """Width and height in pixels as the file has them, before EXIF turned the page."""
    orientation: int
    """EXIF's 1..8; 1 is upright."""
    is_converted: bool
    """True when the file's own pixels differ from `image`'s in frame, depth, colours or transparency."""

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    def sha256(self) -> str:
        """Hash of size and RGB pixels: equal for equal pages, whatever format they are stored in."""
        width, height = self.image.size
        digest = hashlib.sha256(f"{width}x{height}".encode())
        pixels = np.asarray(self.image)
        for top in range(0, height, _BAND_ROWS):
            band = pixels[top : top + _BAND_ROWS]
            digest.update((np.repeat(band, 3) if band.ndim == 2 else band).data)
        return digest.hexdigest()

    def png(self) -> bytes:
        stream = io.BytesIO()
        self.image.save(stream, "PNG", compress_level=1)
        return stream.getvalue()


def load_page(image_bytes: bytes, *, config: DatasetConfig | None = None) -> Image.Image:
    """The page as an upright RGB image over white. Raises DocumentError for bytes that are no such page."""
    return decode_page(image_bytes, config or DatasetConfig()).image.convert("RGB")


def decode_page(data: bytes, config: DatasetConfig) -> Page:
    """The decoded page in `data`: PNG, JPEG or TIFF of one frame within the limits. Raises DocumentError."""
    kind = sniff_format(data)
    check_structure(kind, data)
    with quiet():
        try:
            return _decode(kind, data, config)
        except DocumentError:
            raise
        except Image.DecompressionBombError as error:
            raise DocumentError(RejectReason.IMAGE_TOO_MANY_PIXELS, str(error)) from error
        except UnidentifiedImageError as error:
            # Pillow's text is of no help: it names the stream, by an address that differs in each run.
            raise DocumentError(
                RejectReason.IMAGE_DAMAGED,
                f"{kind}: starts like one, and its header cannot be decoded; export or scan the page again",
            ) from error
        except (
            OSError,
            SyntaxError,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            EOFError,
            struct.error,
            zlib.error,
        ) as error:
            # Pillow's plugins raise any of these for a damaged file.
            raise DocumentError(_reason_of(error), f"{kind}: {described(error)}") from error


def turn_box(box: Box, orientation: int) -> Box:
    """`box` of the stored frame in the upright frame, for EXIF's orientation 1..8."""
    x1, y1, x2, y2 = box
    if orientation in (5, 6, 7, 8):
        x1, y1, x2, y2 = y1, x1, y2, x2
    if orientation in (2, 3, 6, 7):
        x1, x2 = BOX_MAX - x2, BOX_MAX - x1
    if orientation in (3, 4, 7, 8):
        y1, y2 = BOX_MAX - y2, BOX_MAX - y1
    return x1, y1, x2, y2


def _decode(kind: str, data: bytes, config: DatasetConfig) -> Page:
    image = Image.open(io.BytesIO(data), formats=(kind,))
    width, height = image.size
    if width * height > config.max_pixels:
        raise DocumentError(
            RejectReason.IMAGE_TOO_MANY_PIXELS,
            f"{width} x {height} pixels, over max_pixels={config.max_pixels}; scan at a lower resolution",
        )
    _check_one_page(image)
    if kind == "PNG":
        check_png_pixels(data)
    stored_size, divisor, is_inverted = image.size, 257, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        _check_tiles(tags, config)
        stored_size = (tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH])
        divisor = 16 if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,) else 257
        is_inverted = (
            image.mode.startswith("I;16") and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        )
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    image.load()
    if kind != "TIFF":  # Pillow turns a TIFF while it loads it.
        ImageOps.exif_transpose(image, in_place=True)
    if image.size != (stored_size if orientation < 5 else stored_size[::-1]):
        raise DocumentError(
            RejectReason.IMAGE_DAMAGED,
            f"{kind}: {stored_size} pixels, orientation {orientation}, give {image.size}",
        )
    is_plain = image.mode in _PLAIN_MODES and "transparency" not in image.info
    return Page(
        image=_over_white(image, divisor, is_inverted),
        stored_size=stored_size,
        orientation=orientation,
        is_converted=not is_plain or orientation != 1,
    )


def _check_one_page(image: Image.Image) -> None:
    # n_frames of a TIFF walks through all of its directories, which may be a million.
    if image.format == "TIFF":
        try:
            image.seek(1)
        except EOFError:
            return
        several = True
    else:
        several = getattr(image, "n_frames", 1) > 1
    if several:
        raise DocumentError(
            RejectReason.IMAGE_MULTIPLE_PAGES, f"{image.format} of several frames; write one file a page"
        )


def _check_tiles(tags: TiffImagePlugin.ImageFileDirectory_v2, config: DatasetConfig) -> None:
    tile = tags.get(TiffImagePlugin.TILEWIDTH, 1), tags.get(TiffImagePlugin.TILELENGTH, 1)
    if tile[0] * tile[1] > config.max_pixels:
        raise DocumentError(RejectReason.IMAGE_BOMB, f"TIFF: tiles of {tile[0]} x {tile[1]} pixels")


def _over_white(image: Image.Image, divisor: int, is_inverted: bool) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _scaled_grey(image, divisor, is_inverted)
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise DocumentError(
            RejectReason.IMAGE_MODE,
            f"{image.format} of mode {image.mode}; save the page as 8-bit grey or RGB",
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _scaled_grey(image: Image.Image, divisor: int, is_inverted: bool) -> Image.Image:
    """16-bit grey as 8-bit: divided, never clipped. A transparent shade becomes white."""
    transparent = image.info.get("transparency")
    pixels = np.asarray(image)
    grey = np.empty(pixels.shape, dtype=np.uint8)
    for top in range(0, len(pixels), _BAND_ROWS):
        band = pixels[top : top + _BAND_ROWS].astype(np.uint32)
        grey[top : top + _BAND_ROWS] = np.minimum((band + divisor // 2) // divisor, 255)
        if transparent is not None:
            grey[top : top + _BAND_ROWS][band == cast("int", transparent)] = 255
    return Image.fromarray(255 - grey if is_inverted else grey)


def _reason_of(error: Exception) -> RejectReason:
    text = str(error)
    if "MAX_TEXT" in text:
        return RejectReason.IMAGE_BOMB
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return RejectReason.IMAGE_TRUNCATED
    return RejectReason.IMAGE_DAMAGED


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns of odd metadata and large pages; the limits here decide, and a caller's filters do not.

    catch_warnings swaps global state, so two threads must not be in it at once.
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
