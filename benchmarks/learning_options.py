"""What options of the training give: the same recipe with each of them off and on, for several seeds.

    python benchmarks/learning_options.py --receipts ../shared/data/sroie --initial-checkpoint CHECKPOINT \
        --recipe demo_finetune --seeds 3 --out learning_options

    python benchmarks/learning_options.py --train SHARDS --val SHARDS --recipe demo \
        --variant rare_label_exponent=0.5 --variant rare_label_exponent=0.5,head_rate_factor=3

Every variant is trained with the seeds 0, 1, ..., and so is the one without any option. The table has strict
micro F1 and macro F1 over fields of best/ on val, by which best/ was chosen as well: compare variants by
them, and claim nothing of them. Given the same `--out` again, only what is missing is trained. Prints a table
and, last, one JSON line. Downloads nothing, and sees no test data.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

BASELINE = "off"
VARIANTS = ("rare_label_exponent=0.5", "head_rate_factor=3", "early_stopping_patience=3")
MEASURED = ("field_f1", "field_f1_macro", "best_step", "steps", "seconds")


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        shards = {"train": arguments.train, "val": arguments.val}
        if arguments.receipts:
            shards = prepare(arguments.receipts, arguments.initial_checkpoint, out / "receipts")
        _require_same(out / "settings.json", arguments)
        result: dict[str, Any] = {"recipe": arguments.recipe, "set": arguments.set, "variants": {}}
        print(f"{'variant':<52} {'seed':>4} " + " ".join(f"{name:>14}" for name in MEASURED))
        for variant in (BASELINE, *(arguments.variant or VARIANTS)):
            runs = [_train(variant, seed, shards, arguments, out) for seed in range(arguments.seeds)]
            result["variants"][variant] = {name: [run[name] for run in runs] for name in MEASURED}
    off = result["variants"][BASELINE]
    for variant, found in result["variants"].items():
        gains = {
            name: [on - without for on, without in zip(found[name], off[name], strict=True)]
            for name in ("field_f1", "field_f1_macro")
        }
        found["mean_gain"] = {name: round(statistics.mean(values), 4) for name, values in gains.items()}
        print(f"{variant:<52} mean gain by seed: {found['mean_gain']}")
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receipts", type=Path, help="SROIE: img/, box/, key/; instead of --train and --val")
    parser.add_argument("--train", type=Path, help="folder of shards")
    parser.add_argument("--val", type=Path, help="folder of shards")
    parser.add_argument(
        "--initial-checkpoint", type=Path, help="to start from; its tokenizer is the receipts'"
    )
    parser.add_argument("--recipe", required=True, help="ends in _finetune where there is a checkpoint")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="for all variants")
    parser.add_argument("--variant", action="append", metavar="FIELD=VALUE,...", help=f"default: {VARIANTS}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder to keep shards and checkpoints in")
    arguments = parser.parse_args()
    if (arguments.receipts is None) == (arguments.train is None or arguments.val is None):
        parser.error("give either --receipts, or --train and --val")
    return arguments


def _require_same(file: Path, arguments: argparse.Namespace) -> None:
    """A training that has ended in a folder is taken as it is, whatever it was made with."""
    names = ("receipts", "train", "val", "initial_checkpoint", "recipe", "set")
    settings = {name: str(getattr(arguments, name)) for name in names}
    if file.exists() and json.loads(file.read_text()) != settings:
        raise SystemExit(f"{file}: was made with other settings than {settings}; give another --out")
    file.write_text(json.dumps(settings, indent=1))


def prepare(receipts: Path, initial_checkpoint: Path | None, out: Path) -> dict[str, Path]:
    """Shards of the receipts' train and val."""
    from sap_vision_assets.documents import build_dataset
    from sap_vision_assets.documents.importers import import_sroie
    from sap_vision_assets.shards import ShardConfig, build_shards
    from sap_vision_assets.vocabulary import load_vocabulary

    vocabulary, made = load_vocabulary(), {split: out / split / "shards" for split in ("train", "val")}
    if (out / "ready").exists():
        return made
    import_sroie(receipts, out / "documents")
    config = ShardConfig() if initial_checkpoint is None else ShardConfig(tokenizer=str(initial_checkpoint))
    for split, shards in made.items():
        dataset = out / split / "dataset"
        dataset.mkdir(parents=True)
        shards.mkdir()
        build_dataset(out / "documents" / "receipts" / split, dataset, vocabulary=vocabulary)
        build_shards(dataset, shards, vocabulary=vocabulary, config=config)
    (out / "ready").touch()
    return made


def _train(
    variant: str, seed: int, shards: dict[str, Path], arguments: argparse.Namespace, out: Path
) -> dict[str, Any]:
    from sap_vision_assets.evaluation.predict import TorchRunner, predict_documents
    from sap_vision_assets.evaluation.scores import score
    from sap_vision_assets.shards import open_shards
    from sap_vision_assets.training import RECIPES, TrainingJob, launch
    from sap_vision_assets.vocabulary import load_vocabulary

    changes = _fields([*arguments.set, *([] if variant == BASELINE else variant.split(","))])
    job = TrainingJob(
        train_shards=shards["train"],
        val_shards=shards["val"],
        out=out / f"{variant.replace(',', '_')}-{seed}",
        config=replace(RECIPES[arguments.recipe](), tracker="none", seed=seed, **changes),
        initial_checkpoint=arguments.initial_checkpoint,
    )
    summary = launch(job)
    vocabulary = load_vocabulary()
    val = open_shards(job.val_shards, vocabulary)
    scores = score(predict_documents(TorchRunner(job.out / "best"), val), val, vocabulary).summary()
    found = {name: scores.get(name, summary.get(name)) for name in MEASURED}
    shown = (f"{value:.4f}" if isinstance(value, float) else str(value) for value in found.values())
    print(f"{variant:<52} {seed:>4} " + " ".join(f"{value:>14}" for value in shown), flush=True)
    return found


def _fields(pairs: list[str]) -> dict[str, Any]:
    """FIELD=VALUE as the command line takes them: a value is JSON, or else the text itself."""
    fields = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = value
    return fields


if __name__ == "__main__":
    main()
