"""The vocabulary, read from vocabulary.json and, where a user has one, an extension file of the same form."""

import hashlib
import json
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sap_vision_assets.errors import InputError, VocabularyMismatchError
from sap_vision_assets.vocabulary.strict_json import StrictJsonError, parse_json

OUTSIDE = "O"
"""Label 0: the word belongs to no field."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A document type, a subtype or a field."""

    name: str
    sap: str
    """Where SAP keeps it: a table field such as EKKO-EBELN, a document type, a transaction."""
    meaning: str
    """One line for a person."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All classes of the three heads, in the order of their ids."""

    doc_types: tuple[Term, ...]
    po_subtypes: tuple[Term, ...]
    fields: tuple[Term, ...]

    @cached_property
    def doc_type_names(self) -> tuple[str, ...]:
        return tuple(term.name for term in self.doc_types)

    @cached_property
    def po_subtype_names(self) -> tuple[str, ...]:
        return tuple(term.name for term in self.po_subtypes)

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        return tuple(term.name for term in self.fields)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Label names by id: "O", then "B-x" (odd ids) and "I-x" (even ids) for each field x."""
        return labels_of(self.field_names)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the names in their order. Meanings may be reworded without touching an artefact."""
        names = [self.doc_type_names, self.po_subtype_names, self.field_names]
        return hashlib.sha256(json.dumps(names, ensure_ascii=False).encode()).hexdigest()

    def begin_id(self, field: str) -> int:
        """Label id of B-`field`; the I- label is the next one. Raises InputError for an unknown field."""
        try:
            return 1 + 2 * self.field_names.index(field)
        except ValueError:
            raise InputError(
                f"unknown field {field!r}; `sap-vision labels` lists the known ones, "
                "an extension file (--vocabulary) adds others"
            ) from None

    def require_digest(self, digest: str, where: str) -> None:
        """Raises VocabularyMismatchError unless `digest`, which `where` recorded, is this vocabulary's."""
        if digest != self.digest:
            raise VocabularyMismatchError(
                f"{where} was made under vocabulary {digest}, in use is {self.digest}; "
                "use the vocabulary extension that it was made with, or make it again"
            )


def labels_of(field_names: Iterable[str]) -> tuple[str, ...]:
    """Label names, by id, of a vocabulary with these fields."""
    return (OUTSIDE, *(f"{prefix}-{name}" for name in field_names for prefix in "BI"))


def _one_line(text: str) -> str:
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in text):
        raise ValueError("must be one line without control characters")
    return text


_OneLine = Annotated[str, AfterValidator(_one_line)]


class _Term(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    # The reject table, file names and label strings all carry names: no blanks, no "|" and no ",".
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.]{0,63}$")]
    sap: _OneLine = Field(min_length=1, max_length=80)
    meaning: _OneLine = Field(min_length=1, max_length=200)

    def term(self) -> Term:
        return Term(name=self.name, sap=self.sap, meaning=self.meaning)


class _VocabularyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    version: int = Field(ge=1, le=1)
    doc_types: list[_Term] = []
    po_subtypes: list[_Term] = []
    fields: list[_Term] = []


def load_vocabulary(extension: Path | None = None) -> Vocabulary:
    """The package's vocabulary, followed by the terms of the user's `extension` file where one is given.

    Ids of the package's own terms never move. Raises InputError when the extension cannot be read, is no
    regular file, has unknown keys, or repeats a key or a name.
    """
    own = resources.files(__package__).joinpath("vocabulary.json").read_bytes()
    files = [_parse(own, "vocabulary.json")]
    if extension is not None:
        files.append(_parse(_read(extension), str(extension)))
    return Vocabulary(
        doc_types=_unique("doc_types", (term for file in files for term in file.doc_types)),
        po_subtypes=_unique("po_subtypes", (term for file in files for term in file.po_subtypes)),
        fields=_unique("fields", (term for file in files for term in file.fields)),
    )


def _read(extension: Path) -> bytes:
    where = f"vocabulary extension {extension}"
    try:
        # Reading a FIFO would wait for its writer for ever, and /dev/zero has no end.
        if not stat.S_ISREG(extension.stat().st_mode):
            raise InputError(f"{where}: is no regular file; check the path")
        return extension.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: {error.strerror}; check the path") from error


def _parse(content: bytes, where: str) -> _VocabularyFile:
    try:
        return _VocabularyFile.model_validate(parse_json(content))
    except StrictJsonError as error:
        raise InputError(f"{where}: {error}; see docs/vocabulary.md for the form") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise InputError(f"{where}: {place}: {first['msg']}; see docs/vocabulary.md for the form") from error


def _unique(kind: str, terms: Iterable[_Term]) -> tuple[Term, ...]:
    found = tuple(term.term() for term in terms)
    name, count = Counter(term.name for term in found).most_common(1)[0]
    if count > 1:
        raise InputError(f"{kind}: {name!r} is defined {count} times; rename it in the extension file")
    return found
