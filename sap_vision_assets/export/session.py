"""Opens exported models, and only such as keep to their own folder. No torch: production imports this."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]  # has no stubs

from sap_vision_assets.errors import ArtifactError, InputError
from sap_vision_assets.evaluation.stitching import Logits
from sap_vision_assets.shards import Window

Providers = Literal["auto", "cpu", "cuda"]
Device = Literal["cpu", "cuda"]

ModelInputs = tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]
]

INPUT_NAMES = ("input_ids", "bbox", "attention_mask", "pixel_values")
OUTPUT_NAMES = ("doc_type_logits", "po_subtype_logits", "token_logits")
METADATA_KEYS = (
    "vocabulary_digest",
    "tokenizer_digest",
    "page_size_px",
    "window_tokens",
    "stride",
    "max_tokens_per_word",
)
"""What a model file must say of itself: which words and ids it knows, and how pages are cut into windows."""
MAX_COORDINATE = 1000

_EXTERNAL = onnx.TensorProto.EXTERNAL
_GPU_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg")


def external_files(path: Path) -> list[Path]:
    """The files beside `path` that hold its weights, each once; empty when the weights are inside it.

    Raises ArtifactError when the model cannot be read, or when one of its tensors, wherever in the graph it
    stands, names a file that is absolute, outside the model's folder (also through a link), not a plain
    file, or shorter than the tensor needs (CVE-2024-27318 and its relatives).
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read as an ONNX model ({error}); export it again") from error
    folder = path.parent.resolve()
    found: dict[Path, None] = {}
    for tensor in _tensors(model):
        if tensor.data_location == _EXTERNAL or tensor.external_data:
            found[_checked_location(path, folder, tensor)] = None
    return list(found)


def open_session(path: Path, *, providers: Providers = "auto", threads: int = 0) -> ort.InferenceSession:
    """The one way in which this package loads an exported model.

    `threads` of an operator; 0 leaves the number to onnxruntime (the physical cores). "auto" takes a GPU
    where one works and the CPU else; "cuda" never falls back. Raises ArtifactError for a damaged or unsafe
    model (see `external_files`), InputError for settings that this machine cannot serve.
    """
    if threads < 0:
        raise InputError(f"threads={threads}: must be 0 (onnxruntime decides) or more")
    external_files(path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    wanted = _provider_names(providers)
    try:
        session = ort.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # onnxruntime's errors share no base class of their own
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise ArtifactError(f"{path}: onnxruntime refuses it ({error}); export it again") from error
    if providers == "cuda" and device_of(session) != "cuda":
        raise InputError(
            "providers='cuda': onnxruntime fell back to the CPU; install the CUDA and cuDNN release that "
            f"onnxruntime {ort.__version__} was built for, or choose 'cpu'"
        )
    return session


def device_of(session: ort.InferenceSession) -> Device:
    """Where the session's operators run."""
    return "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"


class OnnxRunner:
    """An exported model as evaluation's Runner: arrays of one batch in, logits of the three heads out."""

    def __init__(self, path: Path, *, providers: Providers = "auto", threads: int = 0) -> None:
        self.path = path
        self.session = open_session(path, providers=providers, threads=threads)
        self.device = device_of(self.session)
        self.metadata: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        names = tuple(value.name for value in self.session.get_inputs())
        outputs = tuple(value.name for value in self.session.get_outputs())
        missing = [key for key in METADATA_KEYS if key not in self.metadata]
        if names != INPUT_NAMES or outputs != OUTPUT_NAMES or missing:
            raise ArtifactError(
                f"{path}: takes {names}, gives {outputs}, and its metadata lacks {missing}; expected "
                f"{INPUT_NAMES}, {OUTPUT_NAMES} and nothing lacking: it is no model of export_onnx"
            )

    def __call__(
        self,
        input_ids: npt.NDArray[np.generic],
        bbox: npt.NDArray[np.generic],
        attention_mask: npt.NDArray[np.generic],
        pixel_values: npt.NDArray[np.generic],
    ) -> Logits:
        """input_ids and attention_mask [B, T], bbox [B, T, 4] in 0..1000, pixel_values [B, 3, H, W] in -1..1;
        gives float32 doc_type_logits [B, C], po_subtype_logits [B, C], token_logits [B, T, C].

        Raises InputError for a box outside 0..1000, whose embedding onnxruntime would silently take from the
        other end of the table.
        """
        if bbox.size and (bbox.min() < 0 or bbox.max() > MAX_COORDINATE):
            raise InputError(
                f"bbox spans {bbox.min()}..{bbox.max()}, outside 0..{MAX_COORDINATE}; divide by the page size"
            )
        values = (
            np.ascontiguousarray(input_ids, dtype=np.int64),
            np.ascontiguousarray(bbox, dtype=np.int64),
            np.ascontiguousarray(attention_mask, dtype=np.int64),
            np.ascontiguousarray(pixel_values, dtype=np.float32),
        )
        doc_type_BC, po_subtype_BC, token_BTC = self.session.run(
            OUTPUT_NAMES, dict(zip(INPUT_NAMES, values, strict=True))
        )
        return Logits(doc_type_BC, po_subtype_BC, token_BTC)


def window_inputs(window: Window, page_HW3: npt.NDArray[np.uint8]) -> ModelInputs:
    """What the model takes for one window of a page: batch 1, no padding."""
    input_ids_1T = window.input_ids[None].astype(np.int64)
    pixel_values_13HW = np.ascontiguousarray(page_HW3.transpose(2, 0, 1)[None], np.float32) / np.float32(
        127.5
    )
    pixel_values_13HW -= 1
    return input_ids_1T, window.boxes[None].astype(np.int64), np.ones_like(input_ids_1T), pixel_values_13HW


def _provider_names(providers: Providers) -> list[str | tuple[str, dict[str, str]]]:
    if providers not in ("auto", "cpu", "cuda"):
        raise InputError(f"providers={providers!r}: choose 'auto', 'cpu' or 'cuda'")
    has_gpu = any(Path(name).exists() for name in _GPU_DEVICE_FILES)
    if providers == "cuda" and not has_gpu:
        raise InputError("providers='cuda': this machine has no NVIDIA device; choose 'auto' or 'cpu'")
    # Asking for CUDA where there is none makes onnxruntime fall back after pages of errors on stderr.
    if providers == "cpu" or not has_gpu or "CUDAExecutionProvider" not in ort.get_available_providers():
        return ["CPUExecutionProvider"]
    ort.preload_dlls()  # finds the CUDA libraries that pip installed
    # TF32 keeps 10 bits of a float32's 23: other answers than the checkpoint's.
    return [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor at any depth. onnx's own walk leaves out sparse initializers and training graphs."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for child in value if descriptor.is_repeated else (value,):
                yield from _tensors(child)


def _checked_location(path: Path, folder: Path, tensor: onnx.TensorProto) -> Path:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")

    def refuse(reason: str) -> ArtifactError:
        return ArtifactError(
            f"{path}: tensor {tensor.name!r} keeps its data in {location!r}, which {reason}; "
            "do not load this model, export it again"
        )

    if not location or "\0" in location or Path(location).is_absolute() or "\\" in location:
        raise refuse("is no relative path")
    target: Path = (folder / location).resolve()
    if not target.is_relative_to(folder) or ".." in Path(location).parts:
        raise refuse("is outside the model's folder")
    if not target.is_file():
        raise refuse("is no file")
    try:
        start, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
    except ValueError:
        raise refuse("has an offset or length that is no number") from None
    if start < 0 or length < 0 or start + length > target.stat().st_size:
        raise refuse(f"has {target.stat().st_size} bytes, fewer than {start} + {length}")
    return target
