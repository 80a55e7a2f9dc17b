"""Writes labelled pages: content, layout, damage, and an annotation beside each image."""

import json
import multiprocessing
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from sap_vision_assets.documents.files import DOMAIN_RULE, is_domain_name
from sap_vision_assets.documents.synthesis.damage import apply_damage, choose_damage, encode
from sap_vision_assets.documents.synthesis.layout import lay_out
from sap_vision_assets.documents.synthesis.writers import make_content
from sap_vision_assets.errors import ArtifactError, InputError
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary

SPLITS = ("train", "val", "test")
CHUNK = 25
"""Samples that a process writes before it takes the next ones."""
_SAMPLE_FILE = re.compile(r"images/doc_(\d{6,})\.jpg|annotations/doc_(\d{6,})\.json")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled page, ready to be written."""

    jpeg: bytes
    annotation: dict[str, object]
    """As in the annotation file, image_path included."""

    @property
    def annotation_bytes(self) -> bytes:
        return json.dumps(self.annotation, ensure_ascii=False, separators=(",", ":")).encode()


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

    Sample i depends on (seed, split, i, dpi) alone: more samples extend fewer, and a call that was cut off
    goes on where it ended. `workers` 0 means one process a processor. Raises InputError, before anything is
    written, for settings that cannot be used and for a folder that holds other documents than these samples;
    ArtifactError when the folder cannot be written.
    """
    _require_usable(num_samples=num_samples, split=split, domain=domain, dpi=dpi, workers=workers)
    folder = out / domain / split
    with _writing(folder):
        _require_free(folder, num_samples=num_samples, split=split, seed=seed, dpi=dpi)
        for name in ("images", "annotations"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        _write_all(folder, num_samples=num_samples, split=split, seed=seed, dpi=dpi, workers=workers)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """What ends the writing, here or in a process of the pool, becomes an ArtifactError with path and fix."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"{folder}: cannot be written ({error}); free space or fix the rights, then call it again: "
            "it goes on where it ended"
        ) from error
    except BrokenProcessPool as error:
        raise ArtifactError(
            f"{folder}: a process that writes samples died ({error}); call it again with fewer workers: "
            "it goes on where it ended"
        ) from error


def _write_all(folder: Path, *, num_samples: int, split: str, seed: int, dpi: int, workers: int) -> None:
    jobs = [
        _Job(
            folder=folder, indexes=range(num_samples)[first : first + CHUNK], split=split, seed=seed, dpi=dpi
        )
        for first in range(0, num_samples, CHUNK)
    ]
    processes = min(workers or os.cpu_count() or 1, len(jobs))
    if processes <= 1:
        _exhaust(map(_write_samples, jobs), len(jobs))
        return
    # Forked processes would inherit locks of the caller's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        _exhaust(pool.map(_write_samples, jobs), len(jobs))


def make_sample(index: int, *, split: str, seed: int, dpi: int, vocabulary: Vocabulary) -> Sample:
    """Sample `index` of (seed, split)."""
    rng = random.Random(f"{seed}/{split}/{index}")
    content = make_content(rng, split=split)
    page = lay_out(content, rng=rng, split=split, dpi=dpi)
    damage = choose_damage(rng)
    image, boxes = apply_damage(page.image, page.boxes_px, damage)
    label_ids = {label: number for number, label in enumerate(vocabulary.labels)}
    subtype = {} if content.po_subtype is None else {"po_subtype": content.po_subtype}
    annotation: dict[str, object] = {
        "image_path": f"{sample_name(index)}.jpg",
        "doc_type": content.doc_type,
        **subtype,
        "words": page.words,
        "boxes": [norm1000(box, image.size) for box in boxes],
        "token_labels": [label_ids[label] for label in page.labels],
        "width": image.width,
        "height": image.height,
    }
    return Sample(jpeg=encode(image, damage), annotation=annotation)


def sample_name(index: int) -> str:
    return f"doc_{index:06d}"


def norm1000(box_px: Sequence[float], size: tuple[int, int]) -> list[int]:
    """Left, top, right, bottom as integers of 0..1000 of the page, never inverted."""
    width, height = size
    left, top, right, bottom = box_px
    scaled = (1000 * left / width, 1000 * top / height, 1000 * right / width, 1000 * bottom / height)
    return [min(1000, max(0, round(value))) for value in scaled]


@dataclass(frozen=True, kw_only=True)
class _Job:
    folder: Path
    indexes: range
    split: str
    seed: int
    dpi: int


def _write_samples(job: _Job) -> None:
    vocabulary = load_vocabulary()
    for index in job.indexes:
        image, annotation = _files(job.folder, index)
        if image.exists() and annotation.exists():
            continue
        sample = make_sample(index, split=job.split, seed=job.seed, dpi=job.dpi, vocabulary=vocabulary)
        _write(image, sample.jpeg)
        _write(annotation, sample.annotation_bytes)


def _files(folder: Path, index: int) -> tuple[Path, Path]:
    name = sample_name(index)
    return folder / "images" / f"{name}.jpg", folder / "annotations" / f"{name}.json"


def _write(path: Path, content: bytes) -> None:
    """The whole file or none of it."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _exhaust(done: Iterable[None], total: int) -> None:
    """Waits for all jobs; shows a bar where a person is looking."""
    console = Console(stderr=True)
    for _ in track(done, "documents", total=total, console=console, disable=not sys.stderr.isatty()):
        pass


def _require_usable(*, num_samples: int, split: str, domain: str, dpi: int, workers: int) -> None:
    if split not in SPLITS:
        raise InputError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
    if not is_domain_name(domain):
        raise InputError(f"domain {domain!r}: {DOMAIN_RULE}")
    if num_samples < 0 or workers < 0:
        raise InputError(f"num_samples {num_samples}, workers {workers}: must not be negative")
    if not 50 <= dpi <= 600:
        raise InputError(f"dpi {dpi}: must be 50 to 600")


def _require_free(folder: Path, *, num_samples: int, split: str, seed: int, dpi: int) -> None:
    """Nothing is in the folder but samples of this very call: the first and the last one are made again."""
    present: dict[int, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_dir() and name in ("images", "annotations")) or path.name.startswith(".draft-"):
            continue
        match = _SAMPLE_FILE.fullmatch(name)
        index = int(match[1] or match[2]) if match else num_samples
        if index >= num_samples:
            raise _occupied(folder, path)
        present[index] = path
    for index in {min(present), max(present)} if present else ():
        sample = make_sample(index, split=split, seed=seed, dpi=dpi, vocabulary=load_vocabulary())
        for path, ours in zip(_files(folder, index), (sample.jpeg, sample.annotation_bytes), strict=True):
            if path.exists() and path.read_bytes() != ours:
                raise _occupied(folder, path)


def _occupied(folder: Path, path: Path) -> InputError:
    return InputError(
        f"{folder} already holds other documents ({path.name}); choose another output folder, "
        "or empty this one if its documents are no longer needed"
    )
