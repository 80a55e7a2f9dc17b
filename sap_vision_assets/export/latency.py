"""How long a page takes: the exported variants side by side, on named hardware. No torch here."""

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sap_vision_assets.errors import InputError, VocabularyMismatchError
from sap_vision_assets.export.hardware import describe_hardware
from sap_vision_assets.export.release import LATENCY_FILE, MODEL_FILE, VARIANT_FILES, read_labels
from sap_vision_assets.export.session import ModelInputs, OnnxRunner, Providers, window_inputs
from sap_vision_assets.shards import Shards, open_shards

AnyRunner = Callable[..., Any]

MEASURED = (
    "model time of one page: all its windows one after the other, batch 1; "
    "tokenisation and image scaling are not in it"
)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """How latency is measured."""

    warmup: int = 10
    """Pages that each variant runs before the first is timed."""
    pages: int = 100
    """Timed pages a variant, spread over the test split; a smaller split is gone through several times."""
    threads: int = 0
    """Threads of an operator; 0 leaves it to onnxruntime (the physical cores)."""
    providers: Providers = "auto"
    """"auto": a GPU where one works, else the CPU."""
    variants: tuple[str, ...] = ("fp32", "int8")
    """Of "fp32" and "int8"; fp32 is the product and always timed."""

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.pages < 1:
            raise InputError(f"warmup={self.warmup}, pages={self.pages}: at least 0 and 1")
        unknown = set(self.variants) - set(VARIANT_FILES)
        if unknown or "fp32" not in self.variants:
            raise InputError(f"variants={self.variants}: choose of {tuple(VARIANT_FILES)}, fp32 among them")


@dataclass(frozen=True, kw_only=True)
class LatencyStats:
    """Milliseconds a page. Percentiles are nearest-rank: each is a time that a page really took."""

    mean: float
    min: float
    max: float
    p50: float
    p95: float
    p99: float


def benchmark_latency(
    onnx_dir: Path, *, test_shards: Path, out: Path, config: BenchmarkConfig | None = None
) -> dict[str, Any]:
    """Times the exported model of `onnx_dir` on pages of `test_shards`; writes latency.json and returns it.

    "latency_ms" are the float32 model's figures, "variants" all variants', "not_measured" why one is absent.
    Figures of a CPU and of a GPU are never comparable: "device" says which they are. Raises InputError for
    shards without documents, VocabularyMismatchError for shards of another vocabulary or tokenizer.
    """
    config = config or BenchmarkConfig()
    shards = open_shards(test_shards, read_labels(onnx_dir))
    if not shards.num_documents:
        raise InputError(f"{test_shards}: has no documents to time; add test documents")
    product = OnnxRunner(onnx_dir / MODEL_FILE, providers=config.providers, threads=config.threads)
    require_tokenizer(product.metadata["tokenizer_digest"], shards, test_shards)
    runners, not_measured = _variants(onnx_dir, product, config)
    documents = spread(shards.num_documents, config.pages)
    pages = [page_inputs(shards, document) for document in documents]
    times_ms = time_pages(runners, pages, num_timed=config.pages, warmup=config.warmup)
    hardware = describe_hardware(product.device, threads=config.threads)
    stats = {name: asdict(latency_stats(values)) for name, values in times_ms.items()}
    tokens = [sum(inputs[0].size for inputs in page) for page in pages]
    record = {
        "measured": MEASURED,
        "device": hardware.device,
        "hardware": hardware.name,
        "hardware_details": asdict(hardware),
        "latency_ms": stats["fp32"],
        "variants": stats,
        "not_measured": not_measured,
        "pages": config.pages,
        "distinct_pages": len(pages),
        "mean_tokens_per_page": float(np.mean(tokens)),
        "mean_windows_per_page": float(np.mean([len(page) for page in pages])),
        "config": asdict(config),
    }
    (out / LATENCY_FILE).write_text(json.dumps(record, indent=1, allow_nan=False))
    return record


def time_pages(
    runners: Mapping[str, AnyRunner],
    pages: Sequence[Sequence[ModelInputs]],
    *,
    num_timed: int,
    warmup: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Milliseconds of each of `num_timed` pages, by runner; `clock` gives seconds.

    The runners take turns on every page, and take turns in being first, so that a machine that grows slower
    or whose caches are warm favours none.
    """
    names = list(runners)
    for page in itertools.islice(itertools.cycle(pages), warmup):
        for name in names:
            _run(runners[name], page)
    times_ms: dict[str, list[float]] = {name: [] for name in names}
    for turn, page in enumerate(itertools.islice(itertools.cycle(pages), num_timed)):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = clock()
            _run(runners[name], page)
            times_ms[name].append((clock() - start) * 1000)
    return times_ms


def latency_stats(times_ms: Sequence[float]) -> LatencyStats:
    """Statistics of at least one time."""
    ordered = sorted(times_ms)

    def nearest_rank(percent: int) -> float:
        return ordered[math.ceil(percent * len(ordered) / 100) - 1]

    return LatencyStats(
        mean=math.fsum(ordered) / len(ordered),
        min=ordered[0],
        max=ordered[-1],
        p50=nearest_rank(50),
        p95=nearest_rank(95),
        p99=nearest_rank(99),
    )


def page_inputs(shards: Shards, document: int) -> list[ModelInputs]:
    """The model's inputs for each window of one document."""
    page_HW3 = shards.read_pages([document])[0]
    return [window_inputs(shards.window(index), page_HW3) for index in shards.document_windows(document)]


def require_tokenizer(digest: str, shards: Shards, where: Path) -> None:
    """Raises VocabularyMismatchError unless `shards` hold ids of the tokenizer of `digest`, the model's."""
    found = shards.info.get("tokenizer_digest")
    if found != digest:
        raise VocabularyMismatchError(
            f"{where}: tokenized with {found}, the model knows {digest}; build the shards "
            "again with the model's tokenizer"
        )


def _variants(
    onnx_dir: Path, product: OnnxRunner, config: BenchmarkConfig
) -> tuple[dict[str, AnyRunner], dict[str, str]]:
    runners: dict[str, AnyRunner] = {"fp32": product}
    not_measured: dict[str, str] = {}
    for name in config.variants:
        if name in runners:
            continue
        file = onnx_dir / VARIANT_FILES[name]
        if not file.is_file():
            not_measured[name] = "not in this export"
        elif product.device == "cuda":
            # Parts of it would run on the CPU: neither a GPU's figure nor a CPU's.
            not_measured[name] = "int8 is for CPUs; measure it with providers='cpu'"
        else:
            runners[name] = OnnxRunner(file, providers="cpu", threads=config.threads)
    return runners, not_measured


def _run(runner: AnyRunner, page: Sequence[ModelInputs]) -> None:
    for inputs in page:
        runner(*inputs)


def spread(num_documents: int, wanted: int) -> list[int]:
    """At most `wanted` document indices, evenly over all."""
    count = min(num_documents, wanted)
    return [index * num_documents // count for index in range(count)]
