"""The small page against a full decoding, for every way in which a page is stored."""

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sap_vision_assets.documents import DocumentError
from sap_vision_assets.shards import page_thumbnail


def drawn_page(width: int, height: int) -> Image.Image:
    """A page with lines of "text", a red box in its upper right and a blue one in its lower left corner."""
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for line in range(5, 95, 3):
        top = line * height // 100
        right = width * (30 + line % 60) // 100
        draw.rectangle((width // 10, top, right, top + height // 200), fill="black")
    draw.rectangle((width * 3 // 4, 0, width, height // 4), fill="red")
    draw.rectangle((0, height * 3 // 4, width // 4, height), fill="blue")
    return page


def stored(page: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    page.save(stream, kind, **options)
    return stream.getvalue()


def in_full(image_bytes: bytes) -> NDArray[np.uint8]:
    """What the short cuts must come close to: every pixel decoded, one filter over them."""
    page = Image.open(io.BytesIO(image_bytes)).convert("RGB")
    return np.asarray(page.resize((224, 224), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("size", [(100, 140), (827, 1169), (2480, 3508), (1169, 827)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_short_cuts_come_close_to_a_full_decoding(size: tuple[int, int], kind: str, mode: str) -> None:
    image_bytes = stored(drawn_page(*size).convert(mode), kind)
    page = page_thumbnail(image_bytes, 224)
    assert page.shape == (224, 224, 3)
    assert page.dtype == np.uint8
    difference = np.abs(page.astype(int) - in_full(image_bytes))
    assert difference.mean() < 1.0  # worst case measured: 0.66
    assert difference.max() < 20  # 10


def test_the_whole_page_is_seen_upright_in_colour() -> None:
    page = page_thumbnail(stored(drawn_page(827, 1169), "JPEG"), 224)
    np.testing.assert_allclose(page[20, 200], [255, 0, 0], atol=6)
    np.testing.assert_allclose(page[200, 20], [0, 0, 255], atol=6)
    np.testing.assert_allclose(page[5, 5], [255, 255, 255], atol=3)


def test_a_turned_photograph_is_turned_upright() -> None:
    upright = drawn_page(400, 600)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the stored page must be turned clockwise
    turned = stored(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    difference = np.abs(page_thumbnail(turned, 224).astype(int) - in_full(stored(upright, "PNG")))
    assert difference.mean() < 0.5  # measured: 0.14, and 76 when not turned


def test_transparency_and_palettes_become_rgb_over_white() -> None:
    page = drawn_page(200, 200)
    expected = in_full(stored(page, "PNG"))
    palette = page_thumbnail(stored(page.convert("P"), "PNG"), 224)
    assert np.abs(palette.astype(int) - expected).mean() < 0.5
    keyed = page_thumbnail(stored(page, "PNG", transparency=(255, 0, 0)), 224)
    np.testing.assert_array_equal(keyed[20, 200], [255, 255, 255])
    np.testing.assert_array_equal(expected[20, 200], [255, 0, 0])


def with_damaged_exif(page: Image.Image, kind: str) -> bytes:
    if kind == "JPEG":
        return stored(page, kind, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0", quality=95)
    image_bytes = stored(page, kind)
    # The directory's entry of tag 284 (planar configuration) becomes 34665: EXIF, at the file's end.
    entry = struct.pack("<HHII", 34665, 4, 1, len(image_bytes) - 2)
    return image_bytes.replace(struct.pack("<HHII", 284, 3, 1, 1), entry)


def read_with_exif(image_bytes: bytes) -> None:
    image = Image.open(io.BytesIO(image_bytes))
    image.getexif()
    image.load()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_damaged_exif_makes_no_noise(kind: str) -> None:
    """Warnings are errors in these tests; the twin shows that Pillow has one for this file."""
    page = drawn_page(200, 200)
    image_bytes = with_damaged_exif(page, kind)
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        read_with_exif(image_bytes)
    difference = np.abs(page_thumbnail(image_bytes, 224).astype(int) - in_full(stored(page, "PNG")))
    assert difference.mean() < 1  # measured: JPEG 0.3, TIFF 0.1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_cut_file_is_an_error(kind: str) -> None:
    image_bytes = stored(drawn_page(827, 1169), kind)
    page_thumbnail(image_bytes, 224)
    with pytest.raises((OSError, DocumentError)):
        page_thumbnail(image_bytes[: len(image_bytes) // 2], 224)
