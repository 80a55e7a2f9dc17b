"""From shards to a checkpoint: settings, recipes, and `launch`, which trains under torchrun."""

from sap_vision_assets.training.config import ArchitectureConfig, TrainingConfig, TrainingJob
from sap_vision_assets.training.launcher import launch
from sap_vision_assets.training.recipes import RECIPES

__all__ = ["RECIPES", "ArchitectureConfig", "TrainingConfig", "TrainingJob", "launch"]
