"""What pretrained text weights give: the same training from random weights and from MiniLM's, on receipts.

    python benchmarks/warm_start.py --receipts ../shared/data/sroie --steps 180 --batch 8

Both have the architecture, tokenizer, optimizer and seed of the recipe `minilm`, and read the same batches;
only initial_weights differs. Each trains in a process of its own, chooses its checkpoint on val, and is
scored there by strict micro entity F1. The test split is scored only where `--split test` asks for it: once,
when nothing is to be chosen any more. Prints a line each and, last, one JSON line. Downloads nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

WEIGHTS = ("none", "minilm")
SPLITS = ("train", "val", "test")


def main() -> None:
    arguments = _arguments()
    if arguments.weights:
        print(json.dumps(train(arguments)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or Path(scratch)
        prepare(arguments.receipts, data)
        results = {weights: _in_process(weights, data) for weights in WEIGHTS}
    print(
        json.dumps({"split": arguments.split, "steps": arguments.steps, "batch": arguments.batch, **results})
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receipts", type=Path, required=True, help="SROIE: img/, box/, key/")
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("val", "test"), default="val", help="what is scored at the end")
    parser.add_argument(
        *("--set", "-s"),
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help='another field of the recipe, for both, such as optimizer="adamw"; values are JSON',
    )
    parser.add_argument("--data", type=Path, help="folder to keep the prepared data in, for the next time")
    parser.add_argument("--weights", choices=WEIGHTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_process(weights: str, data: Path) -> dict[str, Any]:
    command = [sys.executable, *sys.argv, "--weights", weights, "--data", str(data)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = dict(json.loads(done.stdout.splitlines()[-1]))
    shown = "  ".join(f"{name} {value:.3f}" for name, value in result.items() if isinstance(value, float))
    print(f"{weights:<8} {shown}", flush=True)
    return result


def prepare(receipts: Path, data: Path) -> None:
    """Imports the receipts, and makes shards of every split with MiniLM's tokens."""
    from sap_vision_assets.documents import build_dataset
    from sap_vision_assets.documents.importers import import_sroie
    from sap_vision_assets.shards import ShardConfig, build_shards
    from sap_vision_assets.vocabulary import load_vocabulary

    if (data / "ready").exists():
        return
    vocabulary = load_vocabulary()
    import_sroie(receipts, data / "documents")
    for split in SPLITS:
        dataset, shards = data / split / "dataset", data / split / "shards"
        dataset.mkdir(parents=True)
        shards.mkdir()
        build_dataset(data / "documents" / "receipts" / split, dataset, vocabulary=vocabulary)
        build_shards(dataset, shards, vocabulary=vocabulary, config=ShardConfig(tokenizer="minilm"))
    (data / "ready").touch()


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains from `arguments.weights`; the scores of best/ on the split that was asked for."""
    import torch

    from sap_vision_assets.training import TrainingJob
    from sap_vision_assets.training.distributed import World
    from sap_vision_assets.training.loop import train as run_loop
    from sap_vision_assets.training.recipes import minilm
    from sap_vision_assets.training.run import Run

    changes = {name: json.loads(value) for name, _, value in (item.partition("=") for item in arguments.set)}
    config = replace(
        minilm(),
        **{
            "initial_weights": arguments.weights,
            "max_steps": arguments.steps,
            "batch_size": arguments.batch,
            "seed": arguments.seed,
            # A tenth of the way up, and five looks at val.
            "warmup_steps": arguments.steps // 10,
            "eval_every_steps": max(1, arguments.steps // 5),
            "save_every_steps": arguments.steps,
            "tracker": "none",
            **changes,
        },
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as out:
        job = TrainingJob(
            train_shards=arguments.data / "train" / "shards",
            val_shards=arguments.data / "val" / "shards",
            out=Path(out),
            config=config,
        )
        started = time.perf_counter()
        summary = run_loop(
            Run(job, World(rank=0, size=1, device=device)),
            report=lambda record: print(record, file=sys.stderr, flush=True),
            stop_requested=lambda: False,
        )
        seconds = time.perf_counter() - started
        assert summary is not None  # nobody stops it
        return {
            **score(Path(out) / "best", arguments.data / arguments.split / "shards"),
            "train_loss": summary["train_loss"],
            "best_step": summary["best_step"],
            "training_s": seconds,
        }


def score(checkpoint: Path, shards: Path) -> dict[str, Any]:
    """Strict micro precision, recall and F1 of all entities of `shards`."""
    from sap_vision_assets.evaluation.predict import TorchRunner, predict_documents
    from sap_vision_assets.evaluation.scores import score as score_documents
    from sap_vision_assets.shards import open_shards
    from sap_vision_assets.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    opened = open_shards(shards, vocabulary)
    summary = score_documents(
        predict_documents(TorchRunner(checkpoint), opened), opened, vocabulary
    ).summary()
    names = ("field_f1", "field_precision", "field_recall", "num_documents", "num_entities")
    return {name: summary[name] for name in names}


if __name__ == "__main__":
    main()
