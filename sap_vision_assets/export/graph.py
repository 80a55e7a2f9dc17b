"""From a checkpoint to ONNX files: the float32 graph, and its dynamically quantised twin."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from sap_vision_assets.encoder import MultiTaskLayoutLMv3
from sap_vision_assets.export.session import INPUT_NAMES, OUTPUT_NAMES, external_files

# Above it the weights go into a file of their own, which loads by mmap; protobuf itself ends at 2 GB.
SINGLE_FILE_LIMIT_BYTES = 256 << 20
MAX_EXPORTED_BATCH = 4096
QUANTISED_OPERATORS = ("MatMul", "Gemm")
"""Not Gather: int8 embeddings would save size, and move every activation behind them."""


class _Heads(nn.Module):
    """The model with a plain tuple as output, in the order of OUTPUT_NAMES."""

    def __init__(self, model: MultiTaskLayoutLMv3) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, bbox: Tensor, attention_mask: Tensor, pixel_values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        output = self.model(input_ids, bbox, attention_mask, pixel_values)
        return output.doc_type_logits_BC, output.po_subtype_logits_BC, output.token_logits_BTC


def write_graph(model: MultiTaskLayoutLMv3, file: Path, *, opset: int, metadata: Mapping[str, str]) -> None:
    """Writes `model` as ONNX with dynamic batch and length, checked, with `metadata` in its metadata_props.

    Weights beyond SINGLE_FILE_LIMIT_BYTES go into `<file>.data`. Constants are folded and dead nodes removed
    by onnxscript's optimizer; operator fusions are left to onnxruntime, which does them when it loads.
    """
    heads = _Heads(model).eval()
    batch = torch.export.Dim("batch", min=1, max=MAX_EXPORTED_BATCH)
    tokens = torch.export.Dim("tokens", min=1, max=model.config.max_tokens)
    text = {0: batch, 1: tokens}
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            heads,
            _example(model),
            dynamo=True,
            opset_version=opset,
            input_names=INPUT_NAMES,
            output_names=OUTPUT_NAMES,
            dynamic_shapes=(text, text, text, {0: batch}),
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise AssertionError("torch.onnx.export with dynamo=True gives a program")
    # The exporter notes stack traces on every node: half of a small file, and this machine's paths.
    ClearMetadataAndDocStringPass()(program.model)
    program.model.metadata_props.update(metadata)
    save_graph(program.model, file)


def save_graph(model: onnx_ir.Model, file: Path) -> None:
    """Writes and checks `model`; large weights go into `<file>.data`, which the graph then names."""
    num_bytes = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value
    )
    external = f"{file.name}.data" if num_bytes > SINGLE_FILE_LIMIT_BYTES else None
    onnx_ir.save(model, file, external_data=external)
    check_graph(file)


def write_int8(source: Path, file: Path, *, per_channel: bool, reduce_range: bool) -> None:
    """Writes `source` with int8 weights in MatMul and Gemm, activations quantised as they come.

    `reduce_range` takes 7 bits for weights: CPUs without VNNI saturate on 8 and then give other answers.
    """
    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    # The exporter's symbolic shapes contradict those that the quantiser infers; it does not need them.
    del model.graph.value_info[:]
    external = bool(external_files(source))
    with _quiet_exporter():
        quantize_dynamic(
            model,
            file,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            per_channel=per_channel,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            use_external_data_format=external,
        )
    quantised = onnx.load(file, load_external_data=False)
    onnx.helper.set_model_props(quantised, metadata)
    file.write_bytes(quantised.SerializeToString())
    check_graph(file)


def check_graph(file: Path) -> None:
    """onnx.checker with shape inference, after the check of external paths."""
    external_files(file)
    onnx.checker.check_model(str(file), full_check=True)


def _example(model: MultiTaskLayoutLMv3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # torch.export specialises sizes 0 and 1: both dynamic sizes are larger here.
    batch, tokens, pixels = 2, 8, int(model.config.input_size)
    mask = torch.ones(batch, tokens, dtype=torch.long)
    mask[1, tokens // 2 :] = 0
    return (
        torch.full((batch, tokens), int(model.config.bos_token_id or 0)),
        torch.zeros(batch, tokens, 4, dtype=torch.long),
        mask,
        torch.zeros(batch, int(model.config.num_channels), pixels, pixels),
    )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silences what these libraries say of themselves on every export, and nothing else."""
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in noisy]
    root_filter = _QuantiserAdvice()
    logging.getLogger().addFilter(root_filter)
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*is deprecated", category=FutureWarning)
            warnings.filterwarnings("ignore", message=r"# The axis name: .* will not be used")
            # Folding the distance buckets takes log(0) for distance 0, and then does not choose it.
            warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"onnx\.reference\.ops")
            yield
    finally:
        logging.getLogger().removeFilter(root_filter)
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)


class _QuantiserAdvice(logging.Filter):
    # onnxruntime logs it through the root logger, whatever was done before.
    def filter(self, record: logging.LogRecord) -> bool:
        return "run pre-processing before quantization" not in record.getMessage()
