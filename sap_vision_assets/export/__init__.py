"""From a checkpoint to the ONNX model that production runs: same answers, measured size and latency.

Importing this package loads no torch; only `export_onnx` does, when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from sap_vision_assets.export.latency import BenchmarkConfig, LatencyStats, benchmark_latency
from sap_vision_assets.export.release import read_labels
from sap_vision_assets.export.session import OnnxRunner, external_files, open_session

if TYPE_CHECKING:
    from sap_vision_assets.export.exporting import ExportConfig, export_onnx

__all__ = [
    "BenchmarkConfig",
    "ExportConfig",
    "LatencyStats",
    "OnnxRunner",
    "benchmark_latency",
    "export_onnx",
    "external_files",
    "open_session",
    "read_labels",
]


def __getattr__(name: str) -> Any:
    if name in ("ExportConfig", "export_onnx"):
        from sap_vision_assets.export import exporting  # noqa: PLC0415  it imports torch

        return getattr(exporting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
