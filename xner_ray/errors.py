"""Exceptions that end a command, reasons to reject a row, flags of rows that are kept.

    XnerError                 exit status 1
    ├── RecipeError           2  a key of the recipe, or a model or language that it names
    ├── InputError            2  a file that cannot be used at all
    ├── RunFolderError        2  the run folder holds something else, or another driver works in it
    ├── MissingExtraError     2  an optional dependency; the message has the install line
    ├── StorageError          1  storage fails for good: a full disk, a missing permission
    │   └── DamageError       1  a file of a run is not what was written
    ├── FatalError            1  a stage says that no row can succeed: do not retry, do not bisect
    ├── RetryableError        1  the same call may succeed later: a stage, or storage that fails for a while
    │   └── ServiceError      1  a store or the hub does not answer, which is no fault of the node that asks
    ├── DeviceError           1  the device of this process fails: another process, or another device, may do better
    └── NodeError             1  a worker's node is at fault, not its work: another node may do better

A message says what is wrong, where, what is allowed and what to do. An exception never rejects a row: a rejected row
has a `Reason`, a missing entity a `Loss`, and an oddity of a row that is kept is a `Flag`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum


class XnerError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_status = 1


class RecipeError(XnerError):
    exit_status = 2


class InputError(XnerError):
    """An error of a file; its message is one line, whatever of the file it quotes."""

    exit_status = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class RunFolderError(XnerError):
    exit_status = 2


class MissingExtraError(XnerError):
    """An optional dependency that is not installed. install: the command that installs it."""

    exit_status = 2

    def __init__(self, package: str, install: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}: {install}")
        self._given = (package, install, purpose)

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return MissingExtraError, self._given


class StorageError(XnerError):
    """An error of a file or a store; its message is one line, whatever a library said."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class DamageError(StorageError):
    """A file of a run that is not what was written. what: the predicate of a sentence about it, `was altered`."""

    def __init__(self, path: str, what: str) -> None:
        what = one_line(what)
        super().__init__(
            f"{path}: {what}. Another program or the disk damaged it; run the command that made this run again: it "
            "makes again what is damaged, and nothing else"
        )
        self.path, self.what = path, what
        self._given = (path, what)

    def __reduce__(self) -> tuple[type[DamageError], tuple[str, str]]:
        return DamageError, self._given


class FatalError(XnerError):
    pass


class RetryableError(XnerError):
    pass


class ServiceError(RetryableError):
    pass


class DeviceError(XnerError):
    pass


class NodeError(XnerError):
    """An error of a node; `node` is Ray's id of it. gpu: Ray's number of the GPU alone that is at fault, if it is."""

    def __init__(self, message: str, node: str, gpu: str | None = None) -> None:
        super().__init__(message)
        self.node, self.gpu = node, gpu

    def __reduce__(self) -> tuple[type[NodeError], tuple[str, str, str | None]]:
        return NodeError, (str(self), self.node, self.gpu)


class Reason(StrEnum):
    """Reasons to reject a row, in the column `reason`; report.json counts each."""

    MALFORMED = "malformed"  # a line or record that breaks its format
    BAD_UTF8 = "bad_utf8"
    ILLEGAL_TAG = "illegal_tag"
    CONTROL_CHARACTER = "control_character"  # NUL and the like break C libraries and CoNLL
    EMPTY = "empty"  # no word on one side
    TOO_LONG = "too_long"  # more words than input.max_words
    BAD_SPAN = "bad_span"  # outside the text, without a word, discontinuous, or without a proper label
    BAD_TOKEN = "bad_token"  # white space in a word that given links count: aligners differ in whether they cut there
    DUPLICATE_ID = "duplicate_id"  # an earlier row of its split has it
    LEFT_OUT = "left_out"  # the file itself says that it is no gold; does not count for output.max_reject_rate
    SOURCE_TOO_LONG = "source_too_long"  # more subwords than the translator reads
    TRANSLATION_EMPTY = "translation_empty"
    TRANSLATION_TRUNCATED = "translation_truncated"
    TRANSLATION_COMMENTED = "translation_commented"  # a language model answered with more lines than the sentence has
    TAGGING_FAILED = "tagging_failed"  # a language model's answer is truncated, malformed, or not about the sentence
    TRANSLATION_REPEATS = "translation_repeats"  # these six if translate.health says reject; else they are flags
    TRANSLATION_COPIED = "translation_copied"
    TRANSLATION_WRONG_SCRIPT = "translation_wrong_script"
    TRANSLATION_LENGTH = "translation_length"
    TRANSLATION_LOST_DIGITS = "translation_lost_digits"
    TRANSLATION_LANGUAGE = "translation_language"
    WORD_TOO_LONG = "word_too_long"  # one word has more subwords than the encoder reads
    INCOMPLETE = "incomplete"  # output.incomplete: reject
    IMAGE_MISSING = "image_missing"  # these four if input.images.missing says reject; else they are flags
    IMAGE_BROKEN = "image_broken"
    IMAGE_REFUSED = "image_refused"
    IMAGE_TOO_LARGE = "image_too_large"
    STAGE_ERROR = "stage_error"  # a stage raised on this row; detail has class and message


class Flag(StrEnum):
    """Oddities of a row that is kept, in the column `flags`."""

    SNAPPED = "snapped"  # the edges of a character span were moved to word edges
    TOKENS_MENDED = "tokens_mended"  # of either side: blanks dropped, words cut at white space, marks joined to a word
    SENTENCES_JOINED = "sentences_joined"  # input.split: sentences that a span crosses stay together
    BY_LLM = "by_llm"  # another run on the same machine may give this row another text or other entities
    MEMORY_HALVED = "memory_halved"  # made in smaller batches than the recipe's, after an out-of-memory error
    BISECTED = "bisected"  # made in other batches than the recipe's, because a row beside it made the stage raise
    TRANSLATION_REPEATS = "translation_repeats"  # these six come from the checks of translate.health
    TRANSLATION_COPIED = "translation_copied"
    TRANSLATION_WRONG_SCRIPT = "translation_wrong_script"
    TRANSLATION_LENGTH = "translation_length"
    TRANSLATION_LOST_DIGITS = "translation_lost_digits"
    TRANSLATION_LANGUAGE = "translation_language"
    BEAM_FULL = "beam_full"  # projector constrained: of some entity, a place beyond constrained.beams might count too
    IMAGE_MISSING = "image_missing"  # there is no such file; the row goes on as text only, as with the next three
    IMAGE_BROKEN = "image_broken"  # no picture, or one that is cut off
    IMAGE_REFUSED = "image_refused"  # outside the folders of pictures, from the web, or of a kind that is not read
    IMAGE_TOO_LARGE = "image_too_large"  # more than input.images.max_mb or max_pixels
    IMAGE_RELABELLED = "image_relabelled"  # the picture gave an entity another label than the text
    CONTEXT_CUT = "context_cut"  # a tagger has not read the end of the row's context; of words it reads all
    MARKER_UNOPENED = "marker_unopened"  # a marked translation has a closing bracket too many
    MARKER_UNCLOSED = "marker_unclosed"  # an opening bracket too many
    MARKER_EMPTY = "marker_empty"  # a pair around nothing but white space and markers
    MARKER_NESTED = "marker_nested"  # a pair around another; both are pieces, a third around them is not
    MARKER_INVENTED = "marker_invented"  # a piece beyond the number of entities


class Loss(StrEnum):
    """Reasons for a missing entity, in `unprojected.reason`."""

    NO_CANDIDATE = "no_candidate"  # no aligned word, or every candidate is longer than match.max_words
    OVERLAP = "overlap"  # its candidates lost to other entities
    LOW_SCORE = "low_score"  # no candidate scores more than match.min_score
    INFEASIBLE = "infeasible"  # no solution gives every entity as many projections as match.per_entity asks for
    NESTED = "nested"  # inside another source span; the outermost is projected
    OVERLAPPING_SPAN = "overlapping_span"  # crosses a longer source span; the longer is projected
    MARKER_NOT_TRANSLATED = "marker_not_translated"  # the marked sentence, or the entity alone, has no translation
    MARKER_LOST = "marker_lost"  # no marked piece of the translation is left for it
    MARKER_NOT_SIMILAR = "marker_not_similar"  # marked pieces are left, but none is similar enough
    MARKER_OVERLAP = "marker_overlap"  # its piece shares a word with a longer or earlier one
    MARKER_UNLIKELY = "marker_unlikely"  # projector constrained: far less probable anywhere than no markers at all
    MARKER_TOO_LONG = (
        "marker_too_long"  # projector constrained: the sentence with markers is longer than the model reads
    )
    OUTVOTED = "outvoted"  # one of the runs has it, the combined run does not


_BY_MATCHING = ("no_candidate", "overlap", "low_score", "infeasible", "outvoted")
BEFORE_MATCHING = tuple(loss for loss in Loss if loss not in _BY_MATCHING)
"""Losses of entities that do not reach the matching."""


def one_line(text: str, most: int = 1200) -> str:
    """Return text as one line of at most so many printable characters, without the middle of a longer one.

    >>> one_line("a\\n\\x1b[2J")
    'a\\\\n\\\\x1b[2J'
    """
    if not text.isprintable():
        text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text.strip())
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[5 - most // 2 :]}"


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """Return a clause that names the nearest allowed values, or all of them if they are few and none is near.

    >>> did_you_mean("methd", ["method", "layer"])
    "; did you mean 'method'?"
    """
    names = sorted(set(allowed))
    near = difflib.get_close_matches(value, names, n=3, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(repr(name) for name in near) + "?"
    return "; allowed: " + ", ".join(names) if len(names) <= 40 else ""


class BadRecord(Exception):  # noqa: N818  no error of the program
    """A fault of one record; a reader turns it into the record's reason and detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def short(value: object) -> str:
    """Return the `repr` of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
