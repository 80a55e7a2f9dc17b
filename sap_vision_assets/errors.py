"""The package's one exception tree. A message says what, the value, where, and the fix."""


class SapVisionError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(SapVisionError, ValueError):
    """The caller's input or settings cannot be used; nothing was started."""


class VocabularyMismatchError(SapVisionError):
    """An artefact was made under another vocabulary than the one in use; the message has both digests."""


class ArtifactError(SapVisionError):
    """A stored artefact is missing, unfinished or damaged; the message names the file."""


class CheckpointError(SapVisionError):
    """A checkpoint cannot be used: truncated, unsafe, or of another vocabulary or configuration."""


class TrainingError(SapVisionError):
    """A training ended without a result; the message names the rank and its cause."""


class LostRanksError(TrainingError):
    """Other ranks are gone or silent, so this one cannot go on; the cause is theirs, or the network's."""


class ParityError(SapVisionError):
    """An exported model does not give the checkpoint's answers."""
