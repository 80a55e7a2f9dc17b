"""Document types, purchase order subtypes and SAP fields: the words that every station speaks."""

from sap_vision_assets.vocabulary.vocabulary import OUTSIDE, Term, Vocabulary, load_vocabulary

__all__ = ["OUTSIDE", "Term", "Vocabulary", "load_vocabulary"]
