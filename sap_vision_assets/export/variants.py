"""What the exported variants are worth: task metrics, size and speed, and whether int8 may be used."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sap_vision_assets.evaluation.scores import score
from sap_vision_assets.evaluation.stitching import DocumentPrediction
from sap_vision_assets.export.hardware import describe_hardware
from sap_vision_assets.export.latency import latency_stats, page_inputs, spread, time_pages
from sap_vision_assets.export.parity import count_flips, predict_as_production
from sap_vision_assets.export.session import OnnxRunner, external_files
from sap_vision_assets.shards import Shards
from sap_vision_assets.vocabulary import Vocabulary

JsonObject = dict[str, Any]

RULE = (
    "fp32 is the product; int8 is offered beside it when, on the validation documents, neither field F1 nor "
    "document type accuracy falls by more than max_int8_drop. Test documents are reported and decide nothing."
)
JUDGED_METRICS = ("field_f1", "doc_type_accuracy")


def describe_files(model: Path) -> JsonObject:
    """{"num_bytes": of the model with its external data, "files": {name: bytes}}."""
    sizes = {file.name: file.stat().st_size for file in [model, *external_files(model)]}
    return {"num_bytes": sum(sizes.values()), "files": sizes}


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Compares variants of one export with its float32 model."""

    product: OnnxRunner
    test: Shards
    val: Shards | None
    vocabulary: Vocabulary

    def report_product(self, answers: Sequence[DocumentPrediction]) -> JsonObject:
        """The float32 model's files and its task metrics on the test documents."""
        return {**describe_files(self.product.path), "test": self._metrics(answers, self.test)}

    def judge_int8(
        self,
        int8: OnnxRunner,
        product_answers: Sequence[DocumentPrediction],
        *,
        max_drop: float,
        tie_margin: float,
        timed_pages: int,
    ) -> JsonObject:
        """Its part of export.json: "int8" with its figures, "int8_offered" and "int8_reason"."""
        answers = predict_as_production(int8, self.test)
        offered, reason, val = self._decide(int8, max_drop)
        files, product_files = describe_files(int8.path), describe_files(self.product.path)
        return {
            "int8_offered": offered,
            "int8_reason": reason,
            "int8": {
                **files,
                "size_ratio": files["num_bytes"] / product_files["num_bytes"],
                "test": self._metrics(answers, self.test),
                "test_flips": asdict(count_flips(product_answers, answers, tie_margin=tie_margin)),
                "val": val,
                "speed": self._speed(int8, timed_pages),
            },
        }

    def _decide(self, int8: OnnxRunner, max_drop: float) -> tuple[bool, str, JsonObject | None]:
        if self.val is None or not self.val.num_documents:
            return False, "not offered: there are no validation documents to judge it on", None
        before = self._metrics(predict_as_production(self.product, self.val), self.val)
        after = self._metrics(predict_as_production(int8, self.val), self.val)
        val = {"fp32": before, "int8": after}
        if any(before[metric] is None for metric in JUDGED_METRICS):
            return False, "not offered: the validation documents have no fields to judge it on", val
        drops = {metric: before[metric] - after[metric] for metric in JUDGED_METRICS}
        offered = all(drop <= max_drop for drop in drops.values())
        shown = ", ".join(f"{metric} falls by {drop:.4f}" for metric, drop in drops.items())
        verdict = "offered" if offered else "not offered"
        return offered, f"{verdict}: on val {shown}; tolerated is {max_drop:g}", val

    def _metrics(self, answers: Sequence[DocumentPrediction], shards: Shards) -> JsonObject:
        return score(answers, shards, self.vocabulary).summary()

    def _speed(self, int8: OnnxRunner, timed_pages: int) -> JsonObject:
        pages = [page_inputs(self.test, index) for index in spread(self.test.num_documents, timed_pages)]
        times_ms = time_pages(
            {"fp32": self.product, "int8": int8}, pages, num_timed=timed_pages, warmup=min(2, timed_pages)
        )
        p50_ms = {name: latency_stats(values).p50 for name, values in times_ms.items()}
        hardware = describe_hardware("cpu", threads=0)
        return {
            "p50_ms": p50_ms,
            "speed_ratio": p50_ms["fp32"] / p50_ms["int8"],
            "pages": timed_pages,
            "device": "cpu",
            "hardware": hardware.name,
            "has_vnni": hardware.has_vnni,
        }
