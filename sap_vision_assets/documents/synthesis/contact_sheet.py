"""Many pages on one picture, to judge what the synthesis makes.

python -m sap_vision_assets.documents.synthesis.contact_sheet --out docs/synthetic_documents.jpg
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from sap_vision_assets.documents.synthesis.damage import apply_damage, choose_damage
from sap_vision_assets.documents.synthesis.layout import lay_out
from sap_vision_assets.documents.synthesis.writers import make_content
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import load_vocabulary

GROUND = (70, 74, 80)
GAP = 14
PO_SUBTYPES = 10
"""How many subtypes of purchase orders the sample has, spread over all of them."""


def contact_sheet(
    pages: Sequence[Path | Image.Image], columns: int = 6, *, page_width: int = 420, page_height: int = 594
) -> Image.Image:
    """Pages, or files of pages, row by row on one RGB picture, each fitted into its cell."""
    if not pages or columns < 1:
        raise InputError(f"contact sheet: {len(pages)} pages in {columns} columns; give at least one of each")
    rows = -(-len(pages) // columns)
    columns = min(columns, len(pages))
    size = (columns * (page_width + GAP) + GAP, rows * (page_height + GAP) + GAP)
    sheet = Image.new("RGB", size, GROUND)
    for number, page in enumerate(pages):
        image = page if isinstance(page, Image.Image) else Image.open(page)
        small = image.convert("RGB")
        small.thumbnail((page_width, page_height), Image.Resampling.LANCZOS)
        left = GAP + (number % columns) * (page_width + GAP) + (page_width - small.width) // 2
        sheet.paste(small, (left, GAP + (number // columns) * (page_height + GAP)))
    return sheet


def sample_pages(num_pages: int, *, seed: int, dpi: int = 100) -> Iterator[Image.Image]:
    """Damaged pages of all document types and of several subtypes, in the looks of all splits."""
    vocabulary = load_vocabulary()
    subtypes = vocabulary.po_subtype_names
    orders = [("PURCHASE_ORDER", subtype) for subtype in subtypes[:: len(subtypes) // PO_SUBTYPES]]
    others = [(name, None) for name in vocabulary.doc_type_names if name != "PURCHASE_ORDER"]
    kinds = [*others, *orders]
    for number in range(num_pages):
        rng = random.Random(f"{seed}/{number}")
        doc_type, subtype = kinds[number % len(kinds)]
        split = ("train", "val", "test")[number % 3]
        content = make_content(rng, split=split, doc_type=doc_type, po_subtype=subtype)
        page = lay_out(content, rng=rng, split=split, dpi=dpi)
        yield apply_damage(page.image, page.boxes_px, choose_damage(rng))[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes a contact sheet of synthetic documents."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="picture to write, such as pages.jpg")
    parser.add_argument("--num-pages", type=int, default=30)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    pages = list(sample_pages(options.num_pages, seed=options.seed))
    contact_sheet(pages, options.columns).save(options.out, quality=82)


if __name__ == "__main__":
    main()
