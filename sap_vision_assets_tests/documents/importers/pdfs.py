"""Small PDFs, drawn by the tests themselves."""

from collections.abc import Callable, Sequence
from pathlib import Path

from reportlab.lib import pdfencrypt
from reportlab.pdfgen.canvas import Canvas

LETTER = (612.0, 792.0)
Text = tuple[float, float, str]
"""Left end of the baseline, in points from the page's top left corner."""


def write_pdf(
    file: Path,
    texts: Sequence[Text] = (),
    *,
    size: tuple[float, float] = LETTER,
    font: tuple[str, float] = ("Helvetica", 10),
    rotation: int = 0,
    crop: tuple[float, float, float, float] | None = None,
    password: str | None = None,
    num_pages: int = 1,
    draw: Callable[[Canvas], None] | None = None,
) -> Path:
    """A PDF whose pages are alike; `crop` is left, bottom, right, top."""
    encrypt = pdfencrypt.StandardEncryption(password) if password is not None else None
    canvas = Canvas(str(file), pagesize=size, cropBox=crop, encrypt=encrypt, invariant=1)
    for _ in range(num_pages):
        canvas.setPageRotation(rotation)
        canvas.setFont(*font)
        for x, y, text in texts:
            canvas.drawString(x, size[1] - y, text)
        if draw is not None:
            draw(canvas)
        canvas.showPage()
    canvas.save()
    return file


def write_heavy_pdf(file: Path, *, depth: int) -> Path:
    """A PDF of a few kilobytes that draws 2 ** depth pieces of text."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</XObject<</X 6 0 R>>>>/Contents 4 0 R>>",
        _stream(b"", b"/X Do"),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for level in range(depth):
        inner = b"<</XObject<</X %d 0 R>>>>" % (7 + level)
        objects.append(_stream(_form(inner), b"/X Do /X Do"))
    text = b"BT /F 10 Tf 50 700 Td (Twenty characters and more) Tj ET"
    objects.append(_stream(_form(b"<</Font<</F 5 0 R>>>>"), text))
    content, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer<</Root 1 0 R/Size %d>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(content))
    file.write_bytes(content + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + trailer)
    return file


def _form(resources: bytes) -> bytes:
    return b"/Type/XObject/Subtype/Form/BBox[0 0 612 792]/Resources" + resources


def _stream(entries: bytes, content: bytes) -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(content), content)
