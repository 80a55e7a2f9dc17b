"""Named starting points. Each returns a whole config; change fields with dataclasses.replace."""

from collections.abc import Callable
from dataclasses import replace

from sap_vision_assets.training.config import ArchitectureConfig, TrainingConfig


def tiny() -> TrainingConfig:
    """Seconds on one core: for tests."""
    return TrainingConfig(
        architecture=ArchitectureConfig(
            hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, patch_size=56, dropout=0.0
        ),
        max_steps=20,
        batch_size=4,
        learning_rate=3e-3,
        warmup_steps=2,
        precision="fp32",
        log_every_steps=1,
        eval_every_steps=10,
        save_every_steps=10,
        tracker="none",
    )


def tiny_finetune() -> TrainingConfig:
    """`tiny`, on from a checkpoint of it."""
    return replace(tiny(), architecture=None, learning_rate=1e-3, max_steps=10, eval_every_steps=5)


def demo() -> TrainingConfig:
    """The default on a CPU: a small encoder from scratch, about ten minutes on two cores."""
    return TrainingConfig(
        architecture=ArchitectureConfig(
            hidden_size=256, num_layers=4, num_heads=4, intermediate_size=1024, patch_size=56, dropout=0.0
        ),
        max_steps=1300,
        batch_size=8,
        learning_rate=1e-3,
        warmup_steps=100,
        # What made a short training from scratch work: docs/performance.md has each step's gain.
        optimizer="muon",
        position_bias_rate_factor=10.0,
        doc_type_loss_weight=0.05,
        po_subtype_loss_weight=0.1,
        eval_every_steps=325,
        save_every_steps=325,
        log_every_steps=10,
    )


def demo_finetune() -> TrainingConfig:
    """`demo`, on from the general checkpoint to one domain."""
    return replace(
        demo(),
        architecture=None,
        max_steps=600,
        learning_rate=5e-4,
        warmup_steps=20,
        # A domain has few documents: as they are, they were learned by heart within 150 steps.
        word_masking=0.15,
        layout_jitter=0.2,
        eval_every_steps=75,
        save_every_steps=150,
    )


def minilm() -> TrainingConfig:
    """A CPU, few documents: MiniLM's sizes and pretrained text weights; its fine-tuning is demo_finetune.

    The shards must have its tokens: the installation's setting tokenizer is "minilm".
    """
    return replace(
        demo(),
        architecture=ArchitectureConfig(
            hidden_size=384,
            num_layers=6,
            num_heads=12,
            intermediate_size=1536,
            patch_size=56,
            dropout=0.0,
            layer_norm_eps=1e-12,
        ),
        initial_weights="minilm",
        # As demo_finetune: half of what random weights want.
        learning_rate=5e-4,
    )


def base() -> TrainingConfig:
    """LayoutLMv3-base (125M parameters) on a GPU. Set initial_weights to start from the published ones."""
    return TrainingConfig(
        architecture=ArchitectureConfig(),
        max_steps=50_000,
        batch_size=4,
        gradient_accumulation_steps=8,
        learning_rate=5e-5,
        warmup_steps=1000,
        weight_decay=0.01,
        max_grad_norm=1.0,
        precision="fp16",
        eval_every_steps=1000,
        save_every_steps=1000,
        log_every_steps=50,
        loader_workers=2,
    )


def base_finetune() -> TrainingConfig:
    """`base`, on from the general checkpoint to one domain."""
    return replace(base(), architecture=None, max_steps=10_000, learning_rate=2e-5)


RECIPES: dict[str, Callable[[], TrainingConfig]] = {
    recipe.__name__: recipe
    for recipe in (tiny, tiny_finetune, demo, demo_finetune, minilm, base, base_finetune)
}
"""By name."""
