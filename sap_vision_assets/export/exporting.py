"""export_onnx: from a checkpoint to the folder that production gets, and the proof that both answer alike."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sap_vision_assets.encoder import MultiTaskLayoutLMv3, load_encoder
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.evaluation.predict import TorchRunner
from sap_vision_assets.export.graph import write_graph, write_int8
from sap_vision_assets.export.latency import require_tokenizer
from sap_vision_assets.export.parity import Parity, check_parity
from sap_vision_assets.export.release import EXPORT_FILE, INT8_FILE, MODEL_FILE, write_labels
from sap_vision_assets.export.session import OnnxRunner
from sap_vision_assets.export.variants import RULE, Judge, describe_files
from sap_vision_assets.shards import Shards, Tokenizer, load_tokenizer, open_shards
from sap_vision_assets.vocabulary import Vocabulary

JsonObject = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How a checkpoint is exported and compared."""

    opset: int = 18
    """ONNX operator set."""
    logits_tolerance: float = 1e-4
    """Largest difference of a logit from the checkpoint's. Worst measured: 3.3e-5, at base size, 512 tokens,
    logits of up to 38 (random weights, made large)."""
    tie_margin: float = 1e-5
    """Nats; log-probabilities closer than this are a tie, which rounding may decide either way."""
    batch_size: int = 8
    """Windows a batch when the checkpoint is asked; the exported model is asked page by page too."""
    threads: int = 0
    """Threads of an onnxruntime operator; 0 leaves it to onnxruntime (the physical cores)."""
    int8: bool = True
    """Whether the quantised variant is made and judged."""
    int8_per_channel: bool = True
    """One scale a column of a weight matrix instead of one a matrix."""
    int8_reduce_range: bool = True
    """7 bits for weights, so that CPUs without VNNI do not saturate and all CPUs answer alike."""
    max_int8_drop: float = 0.005
    """How much field F1 and document type accuracy may fall on val for int8 to be offered, absolute."""
    timed_pages: int = 10
    """Pages on which the variants' speed is compared; `benchmark_latency` is the measurement."""

    def __post_init__(self) -> None:
        if self.opset < 18:
            raise InputError(f"opset={self.opset}: torch's exporter writes 18 or later")
        if not 0 < self.logits_tolerance < 1 or self.tie_margin < 0 or not 0 <= self.max_int8_drop < 1:
            raise InputError(
                f"logits_tolerance={self.logits_tolerance}, tie_margin={self.tie_margin}, "
                f"max_int8_drop={self.max_int8_drop}: must be positive and below 1"
            )
        if self.batch_size < 1 or self.timed_pages < 1 or self.threads < 0:
            raise InputError(
                f"batch_size={self.batch_size}, timed_pages={self.timed_pages}, threads={self.threads}: "
                "at least 1, 1 and 0"
            )


def export_onnx(
    checkpoint: Path,
    *,
    test_shards: Path,
    out: Path,
    vocabulary: Vocabulary,
    val_shards: Path | None = None,
    config: ExportConfig | None = None,
) -> JsonObject:
    """Writes the complete deliverable of `checkpoint` into `out` (see release.py) and returns export.json.

    The float32 graph must give the checkpoint's logits and answers on every page of `test_shards`, else
    ParityError. int8 is judged on `val_shards` by RULE; without them it is not offered. Everything is
    compared on the CPU in float32. Raises InputError for shards without documents or of other sizes,
    CheckpointError and VocabularyMismatchError for a checkpoint or shards of another vocabulary or tokenizer.
    """
    config = config or ExportConfig()
    model, tokenizer = _open_checkpoint(checkpoint, vocabulary)
    test = _open_shards(test_shards, vocabulary, model)
    if not test.num_documents:
        raise InputError(f"{test_shards}: has no documents to compare answers on; add test documents")
    val = _open_shards(val_shards, vocabulary, model) if val_shards is not None else None
    shutil.copyfile(checkpoint / "config.json", out / "config.json")
    tokenizer.save(out)
    write_labels(out, vocabulary)
    metadata = _metadata(model, vocabulary, test)
    write_graph(model, out / MODEL_FILE, opset=config.opset, metadata=metadata)
    product = OnnxRunner(out / MODEL_FILE, providers="cpu", threads=config.threads)
    parity, answers = check_parity(
        TorchRunner(checkpoint, device="cpu"),
        product,
        test,
        batch_size=config.batch_size,
        tolerance=config.logits_tolerance,
        tie_margin=config.tie_margin,
    )
    judge = Judge(product=product, test=test, val=val, vocabulary=vocabulary)
    record = {
        **_headline(parity),
        **describe_files(out / MODEL_FILE),
        "int8_offered": False,
        "int8_reason": "not offered: int8 is switched off in the settings",
        "rule": RULE,
        "vocabulary_digest": vocabulary.digest,
        "tokenizer_digest": tokenizer.digest,
        "parity": asdict(parity),
        "fp32": judge.report_product(answers),
        "config": asdict(config),
    }
    if config.int8:
        write_int8(
            out / MODEL_FILE,
            out / INT8_FILE,
            per_channel=config.int8_per_channel,
            reduce_range=config.int8_reduce_range,
        )
        record |= judge.judge_int8(
            OnnxRunner(out / INT8_FILE, providers="cpu", threads=config.threads),
            answers,
            max_drop=config.max_int8_drop,
            tie_margin=config.tie_margin,
            timed_pages=config.timed_pages,
        )
    (out / EXPORT_FILE).write_text(json.dumps(record, indent=1, allow_nan=False))
    return record


def _headline(parity: Parity) -> JsonObject:
    return {
        "max_abs_difference": max(parity.max_abs_difference.values()),
        "logits_tolerance": parity.tolerance,
        "num_flips": parity.flips.num_real,
        "num_ties": parity.flips.num_ties,
        "num_documents": parity.flips.num_documents,
        "num_words": parity.flips.num_words,
    }


def _open_checkpoint(checkpoint: Path, vocabulary: Vocabulary) -> tuple[MultiTaskLayoutLMv3, Tokenizer]:
    if not (checkpoint / "config.json").is_file():
        raise CheckpointError(f"{checkpoint}: has no config.json; pass a checkpoint such as .../best")
    model = load_encoder(checkpoint)
    vocabulary.require_digest(model.config.vocabulary_digest, str(checkpoint))
    tokenizer = load_tokenizer(checkpoint)
    if tokenizer.digest != model.config.tokenizer_digest:
        raise CheckpointError(
            f"{checkpoint}: its tokenizer is {tokenizer.digest}, its weights know "
            f"{model.config.tokenizer_digest}; restore the tokenizer files that it was trained with"
        )
    return model, tokenizer


def _open_shards(path: Path, vocabulary: Vocabulary, model: MultiTaskLayoutLMv3) -> Shards:
    shards = open_shards(path, vocabulary)
    require_tokenizer(str(model.config.tokenizer_digest), shards, path)
    window_tokens, page_size_px = int(shards.info["max_tokens"]), int(shards.info["page_size"])
    if window_tokens > model.config.max_tokens or page_size_px != model.config.input_size:
        raise InputError(
            f"{path}: windows of {window_tokens} tokens and pages of {page_size_px} pixels, the model holds "
            f"{model.config.max_tokens} and {model.config.input_size}; build the shards with its sizes"
        )
    return shards


def _metadata(model: MultiTaskLayoutLMv3, vocabulary: Vocabulary, shards: Shards) -> dict[str, str]:
    """metadata_props: what the file alone must say of itself. Values are strings, lists are JSON."""
    return {
        "vocabulary_digest": vocabulary.digest,
        "tokenizer_digest": str(model.config.tokenizer_digest),
        "page_size_px": str(model.config.input_size),
        # Production cuts pages as the pages were cut that the figures come from.
        "window_tokens": str(shards.info["max_tokens"]),
        "stride": str(shards.info["stride"]),
        "max_tokens_per_word": str(shards.info["max_tokens_per_word"]),
        "doc_types": json.dumps(vocabulary.doc_type_names),
        "po_subtypes": json.dumps(vocabulary.po_subtype_names),
        "token_labels": json.dumps(vocabulary.labels),
    }
