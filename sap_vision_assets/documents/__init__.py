"""Labelled pages: read, checked against the vocabulary, and kept as Parquet.

observe_folder   what is there, as a digest
validate         what would be rejected, and why
build_dataset    a split's folder -> documents.parquet and rejects.parquet
open_dataset     the documents again
"""

from sap_vision_assets.documents.annotation import Box
from sap_vision_assets.documents.config import DatasetConfig
from sap_vision_assets.documents.dataset import Dataset, build_dataset, open_dataset
from sap_vision_assets.documents.document import Document
from sap_vision_assets.documents.files import SPLITS
from sap_vision_assets.documents.observe import FolderState, observe_folder
from sap_vision_assets.documents.page import load_page
from sap_vision_assets.documents.reasons import DocumentError, RejectReason
from sap_vision_assets.documents.table import DOCUMENTS_FILE, REJECTS_FILE
from sap_vision_assets.documents.validation import SplitReport, ValidationReport, validate

__all__ = [
    "DOCUMENTS_FILE",
    "REJECTS_FILE",
    "SPLITS",
    "Box",
    "Dataset",
    "DatasetConfig",
    "Document",
    "DocumentError",
    "FolderState",
    "RejectReason",
    "SplitReport",
    "ValidationReport",
    "build_dataset",
    "load_page",
    "observe_folder",
    "open_dataset",
    "validate",
]
