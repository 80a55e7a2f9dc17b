"""The model: LayoutLMv3 with three heads, on attention that is fast and whose position biases learn."""

from sap_vision_assets.encoder.attention import start_local
from sap_vision_assets.encoder.config import EncoderConfig
from sap_vision_assets.encoder.loss import (
    LossCounts,
    LossWeights,
    MultiTaskLoss,
    count_targets,
    multitask_loss,
)
from sap_vision_assets.encoder.model import (
    MultiTaskLayoutLMv3,
    MultiTaskOutput,
    load_encoder,
    pages_to_pixel_values,
)

__all__ = [
    "EncoderConfig",
    "LossCounts",
    "LossWeights",
    "MultiTaskLayoutLMv3",
    "MultiTaskLoss",
    "MultiTaskOutput",
    "count_targets",
    "load_encoder",
    "multitask_loss",
    "pages_to_pixel_values",
    "start_local",
]
