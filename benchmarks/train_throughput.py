"""Training throughput and peak memory: this project beside the plain Hugging Face way, on the same pages.

    python benchmarks/train_throughput.py --receipts ../shared/data/sroie \
        --tokenizer ../shared/data/roberta-tokenizer --size small --batch 8 --precision fp32

The plain way is LayoutLMv3Processor with every page padded to 512 tokens, datasets, and transformers.Trainer
on LayoutLMv3Model with three linear heads. Both have the same sizes, tokenizer, pages, batch size, precision
and optimizer (AdamW). Each trains in a process of its own, in turn, `--rounds` times; making the data ready
is not counted. Prints a table and, last, one JSON line. Downloads nothing.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from sap_vision_assets.training.launcher import ALLOCATOR

SIZES = {
    "small": {"hidden_size": 384, "num_layers": 6, "num_heads": 12, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072},
}
WARMUP_STEPS = 1
CONTENDERS = ("ours", "huggingface")


def main() -> None:
    arguments = _arguments()
    if arguments.contender:
        print(json.dumps(_CONTENDERS[arguments.contender](arguments)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or Path(scratch)
        prepare(arguments.receipts, arguments.tokenizer, data)
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for _ in range(arguments.rounds):
            for name in CONTENDERS:
                rounds[name].append(_in_process(name, arguments, data))
    result: dict[str, Any] = {
        "size": arguments.size,
        "batch": arguments.batch,
        "precision": arguments.precision,
    }
    for name, runs in rounds.items():
        result[name] = {
            "docs_per_s": statistics.median(run["docs_per_s"] for run in runs),
            "peak_memory_mb": statistics.median(run["peak_memory_mb"] for run in runs),
            "loss": runs[-1]["loss"],
        }
        shown = ", ".join(f"{run['docs_per_s']:.3f}" for run in runs)
        print(f"{name:<12} documents/s {shown}   peak memory {result[name]['peak_memory_mb']:.0f} MB")
    ours, theirs = result["ours"], result["huggingface"]
    result["docs_per_s_ratio"] = round(ours["docs_per_s"] / theirs["docs_per_s"], 2)
    result["peak_memory_ratio"] = round(ours["peak_memory_mb"] / theirs["peak_memory_mb"], 3)
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receipts", type=Path, required=True, help="SROIE: img/, box/, key/")
    parser.add_argument("--tokenizer", type=Path, required=True, help="RoBERTa's vocab.json and merges.txt")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=12, help="of ours, after a first that is not counted")
    parser.add_argument("--huggingface-steps", type=int, default=3, help="of theirs, likewise")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder to keep the prepared data in, for the next time")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_process(name: str, arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--contender", name, "--data", str(data)]
    for option in ("receipts", "tokenizer", "size", "batch", "precision", "steps", "huggingface_steps"):
        command += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    if name == "ours":
        environment = {**ALLOCATOR, **environment}  # as the launcher starts a training
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def prepare(receipts: Path, tokenizer: Path, data: Path) -> None:
    """Imports the receipts, and makes shards (ours) and a saved data set (theirs) of the same pages."""
    from sap_vision_assets.documents import build_dataset
    from sap_vision_assets.documents.importers import import_sroie
    from sap_vision_assets.shards import ShardConfig, build_shards
    from sap_vision_assets.vocabulary import load_vocabulary

    if (data / "ready").exists():
        return
    vocabulary = load_vocabulary()
    import_sroie(receipts, data / "documents")
    for split in ("train", "val"):
        dataset, shards = data / split / "dataset", data / split / "shards"
        dataset.mkdir(parents=True)
        shards.mkdir()
        build_dataset(data / "documents" / "receipts" / split, dataset, vocabulary=vocabulary)
        build_shards(dataset, shards, vocabulary=vocabulary, config=ShardConfig(tokenizer=str(tokenizer)))
    _save_for_trainer(data / "train" / "dataset", tokenizer, data / "huggingface")
    (data / "ready").touch()


def _save_for_trainer(dataset: Path, tokenizer: Path, out: Path) -> None:
    import io

    import datasets
    from PIL import Image
    from transformers import LayoutLMv3ImageProcessorPil, LayoutLMv3Processor, LayoutLMv3Tokenizer

    from sap_vision_assets.documents import open_dataset
    from sap_vision_assets.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    processor = LayoutLMv3Processor(
        LayoutLMv3ImageProcessorPil(apply_ocr=False),
        LayoutLMv3Tokenizer(vocab=str(tokenizer / "vocab.json"), merges=str(tokenizer / "merges.txt")),
    )
    rows = []
    for document in open_dataset(dataset, vocabulary).iter_documents():
        encoding = processor(
            Image.open(io.BytesIO(document.image_bytes)).convert("RGB"),
            list(document.words),
            boxes=[list(box) for box in document.boxes],
            word_labels=list(document.labels),
            padding="max_length",
            truncation=True,
            max_length=512,
        )
        row = {name: value[0] if name == "pixel_values" else value for name, value in encoding.items()}
        rows.append({**row, "doc_type": vocabulary.doc_type_names.index(document.doc_type)})
    features = datasets.Features(
        {
            "input_ids": datasets.Sequence(datasets.Value("int64")),
            "attention_mask": datasets.Sequence(datasets.Value("int64")),
            "bbox": datasets.Array2D(shape=(512, 4), dtype="int64"),
            "labels": datasets.Sequence(datasets.Value("int64")),
            "pixel_values": datasets.Array3D(shape=(3, 224, 224), dtype="float32"),
            "doc_type": datasets.Value("int64"),
        }
    )
    datasets.Dataset.from_list(rows, features=features).save_to_disk(out)


def _train_ours(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from sap_vision_assets.training import ArchitectureConfig, TrainingConfig, TrainingJob
    from sap_vision_assets.training.distributed import World
    from sap_vision_assets.training.loop import train
    from sap_vision_assets.training.run import Run

    before: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as out:
        job = TrainingJob(
            train_shards=arguments.data / "train" / "shards",
            val_shards=arguments.data / "val" / "shards",
            out=Path(out),
            config=TrainingConfig(
                architecture=ArchitectureConfig(**SIZES[arguments.size]),
                max_steps=WARMUP_STEPS + arguments.steps,
                batch_size=arguments.batch,
                precision=arguments.precision,
                log_every_steps=1,
                eval_every_steps=10_000,
                save_every_steps=10_000,
                eval_batch_size=arguments.batch,
                tracker="none",
            ),
        )
        run = Run(job, World(rank=0, size=1, device=torch.device("cpu")))
        last: dict[str, Any] = {}

        def report(record: dict[str, Any]) -> None:
            if record["step"] == WARMUP_STEPS:
                before.update(documents=run.state.documents, seconds=run.state.seconds)
            if "loss" in record:
                last.update(record, peak_memory_mb=_peak_memory_mb())

        train(run, report=report, stop_requested=lambda: False)
    documents = run.state.documents - before["documents"]
    return {
        "docs_per_s": documents / (run.state.seconds - before["seconds"]),
        "peak_memory_mb": last["peak_memory_mb"],
        "loss": last["loss"],
    }


def _train_huggingface(arguments: argparse.Namespace) -> dict[str, Any]:
    import datasets
    import torch
    from torch import nn
    from transformers import LayoutLMv3Config, LayoutLMv3Model, Trainer, TrainerCallback, TrainingArguments

    from sap_vision_assets.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    sizes = SIZES[arguments.size]
    coordinate = round(sizes["hidden_size"] / 6)
    config = LayoutLMv3Config(
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_heads"],
        intermediate_size=sizes["intermediate_size"],
        coordinate_size=coordinate,
        shape_size=(sizes["hidden_size"] - 4 * coordinate) // 2,
        max_position_embeddings=514,
    )

    class ThreeHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = LayoutLMv3Model(config)
            self.doc_type = nn.Linear(config.hidden_size, len(vocabulary.doc_types))
            self.po_subtype = nn.Linear(config.hidden_size, len(vocabulary.po_subtypes))
            self.token = nn.Linear(config.hidden_size, len(vocabulary.labels))

        def forward(
            self, labels: torch.Tensor, doc_type: torch.Tensor, **inputs: torch.Tensor
        ) -> dict[str, Any]:
            hidden = self.encoder(**inputs).last_hidden_state
            logits = self.token(hidden[:, : labels.shape[1]])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
            loss = loss + nn.functional.cross_entropy(self.doc_type(hidden[:, 0]), doc_type)
            # No receipt has a subtype; the head is there as in the other contender.
            loss = loss + 0.0 * self.po_subtype(hidden[:, 0]).sum()
            return {"loss": loss}

    class Clock(TrainerCallback):
        seconds: ClassVar[list[float]] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(
            model=ThreeHeads(),
            args=TrainingArguments(
                output_dir=out,
                per_device_train_batch_size=arguments.batch,
                # One step more than is counted: its beginning is the last one's end, reading included.
                max_steps=WARMUP_STEPS + arguments.huggingface_steps + 1,
                bf16=arguments.precision == "bf16",
                use_cpu=True,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
            ),
            train_dataset=datasets.load_from_disk(str(arguments.data / "huggingface")).with_format("torch"),
            callbacks=[Clock()],
        )
        trainer.train()
    counted = Clock.seconds[WARMUP_STEPS:]
    steps = len(counted) - 1
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "docs_per_s": steps * arguments.batch / (counted[-1] - counted[0]),
        "peak_memory_mb": _peak_memory_mb(),
        "loss": float(losses[-1]),
    }


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_CONTENDERS = {"ours": _train_ours, "huggingface": _train_huggingface}

if __name__ == "__main__":
    main()
