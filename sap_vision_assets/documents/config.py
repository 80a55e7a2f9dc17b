"""Limits of what one document may cost, and how many processes read."""

import os
from dataclasses import dataclass, fields

from sap_vision_assets.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Everything beyond these limits is rejected or bounded by a stated rule; nothing is read to find out."""

    max_pixels: int = 89_000_000
    """Pixels of a page, from the image's header; a sheet of A0 at 100 dpi has 15 million."""
    max_image_bytes: int = 64 * 2**20
    """Bytes of an image file."""
    max_annotation_bytes: int = 16 * 2**20
    """Bytes of an annotation file."""
    max_words: int = 10_000
    """Words of a page; a dense page of A4 has 1,000."""
    max_word_chars: int = 2_000
    """Characters of a word; a longer word is cut to this and counted as words_cut."""
    workers: int = 0
    """Processes that read documents; 0 is one for each core. 1 reads in the calling process."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "workers" else 1
            if type(value) is not int or value < least:
                raise InputError(
                    f"DatasetConfig.{field.name}={value!r}: must be an integer of at least {least}"
                )

    def num_workers(self, num_documents: int) -> int:
        """Processes to start for so many documents; a handful is read faster than a process starts."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(self.workers or cores, num_documents // MIN_DOCUMENTS_PER_WORKER))


MIN_DOCUMENTS_PER_WORKER = 100
"""A worker costs about 1 s to start (it imports what the caller's main module imports: Dagster, in a step),
a document about 10 ms to read."""
