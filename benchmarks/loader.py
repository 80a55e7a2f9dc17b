"""What feeding the model costs: the loader's share of a training step, and its memory by number of documents.

    python benchmarks/loader.py --documents 1000 50000

Writes synthetic documents, and shards in which they stand again and again until there are enough (their pages
are sparse files: the disk does not need 7 GB). Each number of documents is read in a process of its own.
Memory is the process's own (RssAnon of /proc): pages of mapped files belong to the kernel, which takes them
back at will. Prints a table and, last, one JSON line. Downloads nothing.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sap_vision_assets.training.launcher import ALLOCATOR

NUM_SYNTHETIC = 64
WARMUP_STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, nargs="+", default=[1000, 50_000])
    parser.add_argument("--steps", type=int, default=200, help="steps that are read alone, for the memory")
    parser.add_argument("--train-steps", type=int, default=20, help="steps of the demo recipe, for the share")
    parser.add_argument("--shards", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.shards:
        print(json.dumps(measure(arguments.shards, arguments.steps, arguments.train_steps)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        base = make_shards(Path(scratch))
        found = {}
        for number in arguments.documents:
            shards = tile(base, Path(scratch) / f"tiled_{number}", number)
            command = [sys.executable, __file__, "--shards", str(shards)]
            command += ["--steps", str(arguments.steps), "--train-steps", str(arguments.train_steps)]
            environment = {**ALLOCATOR, **os.environ}  # as the launcher starts a training
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found[number] = one = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{number:>7} documents: loader {one['loader_ms']:.2f} of {one['step_ms']:.0f} ms a step "
                f"({one['loader_share']:.2%}), memory before {one['memory_before_mb']:.0f} MB, "
                f"after {one['memory_after_mb']:.0f} MB"
            )
    first, last = found[arguments.documents[0]], found[arguments.documents[-1]]
    result = {
        "recipe": "demo",
        "loader_share": {str(number): round(one["loader_share"], 4) for number, one in found.items()},
        "memory_after_mb": {str(number): round(one["memory_after_mb"], 1) for number, one in found.items()},
        "memory_ratio": round(last["memory_after_mb"] / first["memory_after_mb"], 3),
    }
    print(json.dumps(result))


def make_shards(scratch: Path) -> Path:
    from sap_vision_assets.documents import build_dataset
    from sap_vision_assets.documents.synthesis.synthesize import synthesize
    from sap_vision_assets.shards import build_shards
    from sap_vision_assets.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    synthesize(scratch / "data", num_samples=NUM_SYNTHETIC, split="train", seed=1)
    dataset, shards = scratch / "dataset", scratch / "shards"
    dataset.mkdir()
    shards.mkdir()
    build_dataset(scratch / "data" / "general" / "train", dataset, vocabulary=vocabulary)
    build_shards(dataset, shards, vocabulary=vocabulary)
    return shards


def tile(base: Path, out: Path, number: int) -> Path:
    """`base` again and again, until there are `number` documents."""
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq

    from sap_vision_assets.shards import open_shards
    from sap_vision_assets.vocabulary import load_vocabulary

    source = open_shards(base, load_vocabulary())
    times = -(-number // source.num_documents)
    shutil.copytree(base, out, ignore=shutil.ignore_patterns("*.npy", "documents.parquet"))
    arrays = {name: np.load(base / f"{name}.npy", mmap_mode="r") for name in source.info["arrays"]}
    lengths = np.tile(source.window_lengths, times)
    made = {
        name: np.tile(arrays[name], (times, *[1] * (arrays[name].ndim - 1)))
        for name in arrays
        if name != "pages"
    }
    made["window_offsets"] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    shifts = np.repeat(np.arange(times) * source.num_documents, source.num_windows)
    made["window_document"] = (np.tile(source.window_document, times) + shifts).astype(np.int32)
    for name, array in made.items():
        np.save(out / f"{name}.npy", array)
    pages = (source.num_documents * times, *arrays["pages"].shape[1:])
    np.lib.format.open_memmap(out / "pages.npy", mode="w+", dtype=np.uint8, shape=pages).flush()
    table = pq.read_table(base / "documents.parquet")
    pq.write_table(pa.concat_tables([table] * times), out / "documents.parquet", write_page_checksum=True)
    info = json.loads((base / "shards.json").read_text())
    info["arrays"] = {**{name: list(array.shape) for name, array in made.items()}, "pages": list(pages)}
    (out / "shards.json").write_text(json.dumps(info))
    return out


def measure(path: Path, steps: int, train_steps: int) -> dict[str, Any]:
    from dataclasses import replace

    import torch

    from sap_vision_assets.training import TrainingJob
    from sap_vision_assets.training.batches import read_steps
    from sap_vision_assets.training.distributed import World
    from sap_vision_assets.training.loop import train
    from sap_vision_assets.training.recipes import demo
    from sap_vision_assets.training.run import Run

    config = replace(
        demo(),
        max_steps=WARMUP_STEPS + train_steps,
        warmup_steps=1,
        log_every_steps=1,
        eval_every_steps=10_000,
        save_every_steps=10_000,
        tracker="none",
    )
    with tempfile.TemporaryDirectory() as out:
        job = TrainingJob(train_shards=path, val_shards=path, out=Path(out), config=config)
        run = Run(job, World(rank=0, size=1, device=torch.device("cpu")))

        def batches(number: range) -> Any:
            return read_steps(
                run.train_shards,
                run.sampler,
                pad_id=run.tokenizer.pad_id,
                steps=number,
                rank=0,
                world_size=1,
                workers=0,
                pin_memory=False,
            )

        before = _own_memory_mb()
        started = time.perf_counter()
        for _ in batches(range(steps)):
            pass
        loader_ms = (time.perf_counter() - started) / steps * 1e3
        after = _own_memory_mb()
        seconds: dict[int, float] = {}

        class EnoughError(Exception):
            pass

        def report(record: dict[str, Any]) -> None:
            seconds[record["step"]] = run.state.seconds
            if record["step"] == config.max_steps - 1:
                raise EnoughError

        with contextlib.suppress(EnoughError):
            train(run, report=report, stop_requested=lambda: False)
    step_ms = (seconds[config.max_steps - 1] - seconds[WARMUP_STEPS]) / (train_steps - 1) * 1e3
    return {
        "loader_ms": loader_ms,
        "step_ms": step_ms,
        "loader_share": loader_ms / step_ms,
        "memory_before_mb": before,
        "memory_after_mb": after,
    }


def _own_memory_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
