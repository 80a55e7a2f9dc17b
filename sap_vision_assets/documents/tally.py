"""What is counted while a folder is read, and the summary that the dataset's metadata shows."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sap_vision_assets.documents.document import COUNTERS, Accepted, Outcome, Rejection
from sap_vision_assets.documents.reasons import RejectReason
from sap_vision_assets.vocabulary import Vocabulary


class Tally:
    """Counts outcomes as they come; keeps the rejections, and no document."""

    def __init__(self) -> None:
        self.num_documents = 0
        self.rejections: list[Rejection] = []
        self.counters: Counter[str] = Counter()
        self._num_words = 0
        self._doc_types: Counter[str] = Counter()
        self._po_subtypes: Counter[str] = Counter()
        self._begin_labels: Counter[int] = Counter()
        self._pages: set[str] = set()

    def add(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Accepted):
            self.rejections.append(outcome)
            self.counters["images_without_annotation"] += (
                outcome.reason is RejectReason.IMAGE_WITHOUT_ANNOTATION
            )
            self.counters["unexpected_files"] += outcome.reason is RejectReason.UNEXPECTED_FILE
            return
        document = outcome.document
        self.num_documents += 1
        self._num_words += len(document.words)
        self._doc_types[document.doc_type] += 1
        if document.po_subtype is not None:
            self._po_subtypes[document.po_subtype] += 1
        self._begin_labels.update(label for label in document.labels if label % 2 == 1)
        self.counters.update(outcome.counters)
        self.counters["repeated_pages"] += document.page_sha256 in self._pages
        self._pages.add(document.page_sha256)

    @property
    def num_rejected(self) -> int:
        """Documents that were lost; notices, such as an image without annotation, are not among them."""
        return sum(not rejection.reason.is_notice for rejection in self.rejections)

    def rejects_by_reason(self) -> dict[str, int]:
        """Most frequent first."""
        lost = Counter(str(r.reason) for r in self.rejections if not r.reason.is_notice)
        return dict(sorted(lost.items(), key=lambda item: (-item[1], item[0])))

    def counter_values(self) -> dict[str, int]:
        """Every counter, if only as 0."""
        return {name: self.counters[name] for name in COUNTERS}

    def summary(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """JSON values, classes in the vocabulary's order."""
        fields = {vocabulary.field_names[label // 2]: count for label, count in self._begin_labels.items()}
        num_seen = self.num_documents + self.num_rejected
        return {
            "num_documents": self.num_documents,
            "num_rejected": self.num_rejected,
            "reject_rate": self.num_rejected / num_seen if num_seen else 0.0,
            "rejects_by_reason": self.rejects_by_reason(),
            "counters": self.counter_values(),
            "doc_type_counts": _in_order(vocabulary.doc_type_names, self._doc_types),
            "po_subtype_counts": _in_order(vocabulary.po_subtype_names, self._po_subtypes),
            "field_counts": _in_order(vocabulary.field_names, fields),
            "num_words": self._num_words,
            "vocabulary_digest": vocabulary.digest,
        }


def _in_order(names: tuple[str, ...], counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in names if counts.get(name)}
