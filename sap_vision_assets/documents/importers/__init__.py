"""Public data sets in their own formats become data roots of this package's format.

Nothing that a source says is dropped without being counted and listed in the import report.
"""

from sap_vision_assets.documents.importers.adbuy import import_adbuy
from sap_vision_assets.documents.importers.funsd import FUNSD_VOCABULARY, import_funsd
from sap_vision_assets.documents.importers.report import ImportProblem, ImportReport
from sap_vision_assets.documents.importers.sroie import import_sroie

__all__ = [
    "FUNSD_VOCABULARY",
    "ImportProblem",
    "ImportReport",
    "import_adbuy",
    "import_funsd",
    "import_sroie",
]
