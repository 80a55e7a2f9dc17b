"""Predictor: an exported model and what belongs to it, answering page by page."""

from pathlib import Path
from typing import Any

from sap_vision_assets.errors import ArtifactError, InputError, VocabularyMismatchError
from sap_vision_assets.evaluation.stitching import DocumentPrediction, Logits, Stitcher
from sap_vision_assets.export import OnnxRunner, read_labels
from sap_vision_assets.export.release import THRESHOLDS_FILE, VARIANT_FILES, read_json, verify
from sap_vision_assets.export.session import Providers, window_inputs
from sap_vision_assets.inference.page import PageInput, read_page
from sap_vision_assets.inference.results import PageAnswer, Thresholds, assemble
from sap_vision_assets.shards import ShardConfig, encode_document, load_tokenizer, page_thumbnail
from sap_vision_assets.vocabulary import Vocabulary


class Predictor:
    """A released folder, loaded once. Calls may come from several threads: nothing in it changes."""

    def __init__(
        self, release: Path, *, variant: str = "fp32", providers: Providers = "auto", threads: int = 0
    ) -> None:
        """Loads a promoted model's folder, or what `export_onnx` wrote, which lacks evaluation's thresholds.

        `variant` is "fp32" or "int8"; `threads` of an operator, 0 leaves it to onnxruntime. Every file that
        the folder's manifest.json lists is read once and verified; a folder without one is used as it is, and
        a warning says so. Raises ArtifactError naming a file that is missing, changed or unsafe, and
        VocabularyMismatchError when the files do not belong together.
        """
        if variant not in VARIANT_FILES:
            raise InputError(f"variant={variant!r}: choose of {tuple(VARIANT_FILES)}")
        if not (release / VARIANT_FILES[variant]).is_file():
            raise ArtifactError(
                f"{release}: has no {VARIANT_FILES[variant]}; int8 is released only where it was offered; "
                "without model.onnx it is no released folder"
            )
        verify(release)
        self.vocabulary = read_labels(release)
        self.runner = OnnxRunner(release / VARIANT_FILES[variant], providers=providers, threads=threads)
        self.tokenizer = load_tokenizer(release)
        metadata = self.runner.metadata
        self.vocabulary.require_digest(metadata["vocabulary_digest"], str(self.runner.path))
        if self.tokenizer.digest != metadata["tokenizer_digest"]:
            raise VocabularyMismatchError(
                f"{release}: its tokenizer is {self.tokenizer.digest}, the model knows "
                f"{metadata['tokenizer_digest']}; export the model again"
            )
        self.config = ShardConfig(
            max_tokens=int(metadata["window_tokens"]),
            stride=int(metadata["stride"]),
            max_tokens_per_word=int(metadata["max_tokens_per_word"]),
            page_size=int(metadata["page_size_px"]),
        )
        self.thresholds = _read_thresholds(release / THRESHOLDS_FILE, self.vocabulary)

    def predict(self, page: PageInput) -> PageAnswer:
        """Document type, subtype of a purchase order, fields and line items of one page."""
        return assemble(self.predict_words(page), page.words, page.boxes, self.vocabulary, self.thresholds)

    def predict_file(self, file: Path, *, image: Path | None = None) -> PageAnswer:
        """`predict` for the page that a JSON file describes, see `read_page`."""
        return self.predict(read_page(file, image=image, vocabulary=self.vocabulary))

    def predict_words(self, page: PageInput) -> DocumentPrediction:
        """Class probabilities and a label for every word: what evaluation scores."""
        encoded = encode_document(page.words, page.boxes, None, tokenizer=self.tokenizer, config=self.config)
        pixels_HW3 = page_thumbnail(page.image_bytes, self.config.page_size)
        stitcher = Stitcher(page.page_id, len(page.words))
        for window in encoded.windows:
            logits = self.runner(*window_inputs(window, pixels_HW3))
            positions, words = window.scored_positions()
            stitcher.add(positions, words, Logits(*(head[0] for head in logits)))
        return stitcher.finish()


def predict_page(
    release: Path,
    file: Path,
    *,
    image: Path | None = None,
    variant: str = "fp32",
    providers: Providers = "auto",
    threads: int = 0,
) -> dict[str, Any]:
    """One page's answer as JSON values: what `sap-vision predict` prints."""
    predictor = Predictor(release, variant=variant, providers=providers, threads=threads)
    return predictor.predict_file(file, image=image).to_json()


def _read_thresholds(file: Path, vocabulary: Vocabulary) -> Thresholds:
    if not file.exists():
        return Thresholds(is_known=False)
    record = read_json(file)
    try:
        vocabulary.require_digest(record["vocabulary_digest"], str(file))
        return Thresholds(
            doc_type=_threshold(record["doc_type"]),
            po_subtype=_threshold(record["po_subtype"]),
            fields={name: _threshold(value) for name, value in record["fields"].items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactError(
            f"{file}: is no thresholds.json of evaluation ({error!r}); copy it again"
        ) from error


def _threshold(record: dict[str, Any]) -> float | None:
    threshold = record["threshold"]
    return None if threshold is None else float(threshold)
