"""Writes labelled pages: content, layout, damage, and the annotation in the form of docs/data_format.md."""

import json
import multiprocessing
import os
import random
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sap_vision_assets.documents.synthesis.damage import apply_damage, choose_damage, encode
from sap_vision_assets.documents.synthesis.layout import lay_out
from sap_vision_assets.documents.synthesis.writers import make_content
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary

SPLITS = ("train", "val", "test")
CHUNK = 50
"""Samples that a process writes before it takes the next ones."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled page, ready to be written."""

    jpeg: bytes
    annotation: dict[str, object]
    """As in the annotation JSON, without image_path."""


def synthesize(
    out: Path,
    *,
    num_samples: int,
    split: str,
    seed: int,
    domain: str = "general",
    dpi: int = 100,
    workers: int = 0,
) -> None:
    """Writes `num_samples` pages and annotations to <out>/<domain>/<split>/images and .../annotations.

    Sample i depends on (seed, split, i, dpi) alone, so more samples extend fewer. `workers` 0 means one process a
    processor. Raises InputError when the folder already holds anything else than these samples.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
    if num_samples < 0 or not 50 <= dpi <= 600:
        raise InputError(f"num_samples {num_samples}, dpi {dpi}: need at least 0 samples, and 50 to 600 dpi")
    folder = out / domain / split
    _require_free(folder, num_samples=num_samples, split=split, seed=seed, dpi=dpi)
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    jobs = [
        _Job(
            folder=folder, first=first, last=min(first + CHUNK, num_samples), split=split, seed=seed, dpi=dpi
        )
        for first in range(0, num_samples, CHUNK)
    ]
    processes = min(workers or os.cpu_count() or 1, len(jobs))
    if processes <= 1:
        for job in jobs:
            _write_samples(job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for _ in pool.map(_write_samples, jobs):
            pass


def make_sample(index: int, *, split: str, seed: int, dpi: int, vocabulary: Vocabulary) -> Sample:
    """Sample `index` of (seed, split)."""
    rng = random.Random(f"{seed}/{split}/{index}")
    content = make_content(rng, split=split)
    page = lay_out(content, rng=rng, split=split, dpi=dpi)
    damage = choose_damage(rng)
    image, boxes = apply_damage(page.image, page.boxes_px, damage)
    label_ids = {label: number for number, label in enumerate(vocabulary.labels)}
    annotation: dict[str, object] = {"doc_type": content.doc_type}
    if content.po_subtype is not None:
        annotation["po_subtype"] = content.po_subtype
    annotation |= {
        "words": page.words,
        "boxes": [norm1000(box, image.size) for box in boxes],
        "token_labels": [label_ids[label] for label in page.labels],
        "width": image.width,
        "height": image.height,
    }
    return Sample(jpeg=encode(image, damage), annotation=annotation)


def norm1000(box_px: Sequence[float], size: tuple[int, int]) -> list[int]:
    """Left, top, right, bottom as integers of 0..1000 of the page, never inverted."""
    width, height = size
    left, top, right, bottom = box_px
    scaled = (1000 * left / width, 1000 * top / height, 1000 * right / width, 1000 * bottom / height)
    return [min(1000, max(0, round(value))) for value in scaled]


@dataclass(frozen=True, kw_only=True)
class _Job:
    folder: Path
    first: int
    last: int
    split: str
    seed: int
    dpi: int


def _write_samples(job: _Job) -> None:
    vocabulary = load_vocabulary()
    for index in range(job.first, job.last):
        sample = make_sample(index, split=job.split, seed=job.seed, dpi=job.dpi, vocabulary=vocabulary)
        name = f"doc_{index:06d}"
        annotation = {"image_path": f"{name}.jpg", **sample.annotation}
        _write(job.folder / "images" / f"{name}.jpg", sample.jpeg)
        text = json.dumps(annotation, ensure_ascii=False, separators=(",", ":"))
        _write(job.folder / "annotations" / f"{name}.json", text.encode())


def _write(path: Path, content: bytes) -> None:
    """The whole file or none of it."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(draft).chmod(0o644)
    Path(draft).replace(path)


def _require_free(folder: Path, *, num_samples: int, split: str, seed: int, dpi: int) -> None:
    """The folder is empty, or its first files are those of this very call, which then goes on or extends it."""
    present = [path for path in sorted(folder.glob("*/*")) if not path.name.startswith(".draft-")]
    if not present:
        return
    names = {f"doc_{index:06d}" for index in range(num_samples)}
    foreign = next((path for path in present if path.stem not in names), None)
    if foreign is None:
        index = min(int(path.stem.removeprefix("doc_")) for path in present)
        sample = make_sample(index, split=split, seed=seed, dpi=dpi, vocabulary=load_vocabulary())
        image = folder / "images" / f"doc_{index:06d}.jpg"
        if not image.exists() or image.read_bytes() == sample.jpeg:
            return
        foreign = image
    raise InputError(
        f"{folder} already holds other documents ({foreign.name}); "
        "choose another output folder, or empty this one if its documents are no longer needed"
    )
