"""Production: a released folder answers for one page. onnxruntime, no torch."""

from sap_vision_assets.inference.predictor import Predictor, predict_page
from sap_vision_assets.inference.results import ClassAnswer, FieldAnswer, PageAnswer

__all__ = ["ClassAnswer", "FieldAnswer", "PageAnswer", "Predictor", "predict_page"]
