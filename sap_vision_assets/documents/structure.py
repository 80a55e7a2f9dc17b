"""What image decoders let pass in silence: files cut short, and files made to keep the decoder busy."""

import struct
import zlib

from PIL import TiffImagePlugin

from sap_vision_assets.documents.reasons import DocumentError, RejectReason

MAX_JPEG_SCANS = 200
"""A progressive JPEG has about 10; each costs as much as decoding the page again."""
MAX_TIFF_STRIPS = 100_000
"""Strips or tiles; each costs an object in memory."""
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel, by PNG's colour type."""
_PNG_PALETTE = 3
"""The colour type whose samples are indices into the palette."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Left, top, step right and step down of the passes of an interlaced PNG."""
_INFLATE_BYTES = 1 << 20


def sniff_format(data: bytes) -> str:
    """ "PNG", "JPEG" or "TIFF", from the first bytes alone. Raises DocumentError for anything else."""
    for magic, kind in (
        (_PNG_MAGIC, "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),
        (b"MM\0+", "TIFF"),
    ):
        if data.startswith(magic):
            return kind
    raise DocumentError(
        RejectReason.IMAGE_FORMAT,
        f"starts with {data[:12]!r}; a page is a PNG, JPEG or TIFF, whatever its name",
    )


def check_structure(kind: str, data: bytes) -> None:
    """Raises DocumentError for a file without its end, and for one made to keep its decoder busy."""
    if kind == "PNG":
        is_complete = data.rfind(b"IEND\xaeB`\x82") > 0
    elif kind == "JPEG":
        scan = _first_scan(data)
        is_complete = data.rfind(b"\xff\xd9") > scan
        if data.count(b"\xff\xda", scan) > MAX_JPEG_SCANS:
            raise DocumentError(RejectReason.IMAGE_BOMB, f"JPEG: more than {MAX_JPEG_SCANS} scans")
    else:
        is_complete = True  # Strips may stand anywhere in the file: reading them tells.
        if _num_tiff_strips(data) > MAX_TIFF_STRIPS:
            raise DocumentError(RejectReason.IMAGE_BOMB, f"TIFF: more than {MAX_TIFF_STRIPS} strips or tiles")
    if not is_complete:
        raise DocumentError(
            RejectReason.IMAGE_TRUNCATED, f"{kind}: {len(data)} bytes, and the end of the image is not there"
        )


def _first_scan(data: bytes) -> int:
    """Where the JPEG's own first scan starts; a thumbnail among the segments before it has one, too."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return position  # Stray bytes, which decoders skip.
        marker = data[position + 1]
        if marker == 0xDA:
            return position
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # noqa: PLR1714 (fill, no-payload markers)
            position += 1 if marker == 0xFF else 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return len(data)


def _num_tiff_strips(data: bytes) -> int:
    """Strips or tiles that the first page's directory announces; 0 where it cannot be read."""
    order = "<" if data.startswith(b"II") else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    offset_format, count_format, entry_format = ("Q", "Q", "HHQ8x") if is_big else ("I", "H", "HHI4x")
    try:
        (offset,) = struct.unpack_from(order + offset_format, data, 8 if is_big else 4)
        (num_entries,) = struct.unpack_from(order + count_format, data, offset)
        start, size = offset + struct.calcsize(count_format), struct.calcsize(order + entry_format)
        most = 0
        for index in range(min(num_entries, 1000)):
            tag, _, count = struct.unpack_from(order + entry_format, data, start + index * size)
            if tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS):
                most = max(most, count)
    except struct.error:
        return 0
    return int(most)


def check_png_pixels(data: bytes) -> None:
    """Raises DocumentError when the palette is missing, or the compressed pixels end before the last row.

    Pillow gives black for either. Inflates a second time, in bounded memory; call it when the size is known
    to be within the limits.
    """
    header, has_palette, compressed = _png_chunks(data)
    if len(header) < 13:
        return  # The decoder's own header check tells.
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    if colour == _PNG_PALETTE and not has_palette:
        raise DocumentError(
            RejectReason.IMAGE_DAMAGED,
            "PNG: of colour type 3 without a palette (PLTE); save it as grey or RGB",
        )
    bits = depth * _PNG_CHANNELS.get(colour, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    wanted = 0
    for left, top, right, down in passes:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        wanted += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    inflated, stream = 0, zlib.decompressobj()
    for chunk in compressed:
        rest = chunk
        while rest and inflated < wanted and not stream.eof:
            inflated += len(stream.decompress(rest, _INFLATE_BYTES))
            rest = stream.unconsumed_tail
    inflated += len(stream.flush()) if inflated < wanted else 0
    if inflated < wanted:
        raise DocumentError(
            RejectReason.IMAGE_TRUNCATED, f"PNG: the pixels unpack to {inflated} of {wanted} bytes"
        )


def _png_chunks(data: bytes) -> tuple[bytes, bool, list[bytes]]:
    """The content of the IHDR chunk, whether a PLTE chunk stands before the pixels, and the IDAT chunks'."""
    header, has_palette, position = b"", False, len(_PNG_MAGIC)
    compressed: list[bytes] = []
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IHDR":
            header = data[position + 8 : position + 8 + size]
        elif kind == b"PLTE":
            has_palette = has_palette or not compressed
        elif kind == b"IDAT":
            compressed.append(data[position + 8 : position + 8 + size])
        elif kind == b"IEND":
            break
        position += 12 + size
    return header, has_palette, compressed
