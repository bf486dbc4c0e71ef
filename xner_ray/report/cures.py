"""What reasons, flags and losses mean, in words, and what to do about them: for commands, page and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from xner_ray.errors import Flag, Loss, Reason


class Told(NamedTuple):
    """A code in words. means: what happened; cure: what to do. Both without a full stop."""

    means: str
    cure: str


_REPEATS = "the translation repeats itself"
_COPIED = "the translation is the source"
_SCRIPT = "the translation is in another script than its language is written in"
_LENGTH = "the translation is far too long or too short for its source"
_DIGITS = "numbers of the source are missing in the translation"
_LANGUAGE = "the translation is in another language"
_MISSING = "there is no such picture"
_BROKEN = "the file is no picture, or one that is cut off"
_REFUSED = "the picture is outside the folders of pictures, from the web, or of a kind that is not read"
_LARGE = "the picture has more than input.images.max_mb or max_pixels"

_TRANSLATED = "look at the translation; translate.health says whether it rejects the row, or flags it"
_PICTURE = "mend the reference or the file; input.images.missing: flag keeps such rows, without a picture"
_ROOTS = "put pictures below the input's folder or input.images.roots, as JPEG, PNG, WebP, GIF or BMP"
_SMALLER = "make the picture smaller, or raise input.images.max_mb or max_pixels"
_FILTER = "filter by the flag, or let translate.health reject such rows"
_BRACKETS = "nothing; if it is often, look at the translations, or take projector match"

REASONS: Mapping[Reason, Told] = {
    Reason.MALFORMED: Told(
        "the line or record breaks its format",
        "mend the record, or say how the file is written: input.format, input.columns",
    ),
    Reason.BAD_UTF8: Told(
        "the line has bytes that are no UTF-8", "convert the file to UTF-8, as with iconv -f latin1 -t utf-8"
    ),
    Reason.ILLEGAL_TAG: Told(
        "a tag is none of those that the scheme has",
        "mend the tag, or say how tags are written: input.scheme, or input.columns.tags for the column",
    ),
    Reason.CONTROL_CHARACTER: Told(
        "the text has a character such as NUL, which breaks C libraries and CoNLL",
        "remove the character, as with tr -d '\\000-\\010'",
    ),
    Reason.EMPTY: Told("one side has no word", "give the sentence a word, or leave it out on both sides"),
    Reason.TOO_LONG: Told(
        "the sentence has more words than input.max_words",
        "cut documents (input.split: sentences, or blank lines), or raise input.max_words",
    ),
    Reason.BAD_SPAN: Told(
        "a span is outside the text, without a word, discontinuous, or without a label",
        "mend the span, or say what its numbers count: input.offsets, input.ends",
    ),
    Reason.BAD_TOKEN: Told(
        "a word that given links count has white space in it",
        "part words by single blanks, as the aligner that made input.links read them",
    ),
    Reason.DUPLICATE_ID: Told(
        "an earlier row of its split has the same id",
        "give each row of a split an id of its own, or leave ids out: then file and line are the id",
    ),
    Reason.LEFT_OUT: Told(
        "the file itself says that the row is no gold; output.max_reject_rate does not count it",
        "nothing, if the file is right that it is no gold; input.answers says which answers count",
    ),
    Reason.SOURCE_TOO_LONG: Told(
        "the sentence has more subwords than the translator reads",
        "cut the sentence: the translator reads no more subwords",
    ),
    Reason.TRANSLATION_EMPTY: Told(
        "the translator answered with nothing", "look at the sentence: the translator found nothing to say"
    ),
    Reason.TRANSLATION_TRUNCATED: Told(
        "the translation reached the translator's limit and is cut off",
        "raise translate.max_new_tokens, or cut the sentence",
    ),
    Reason.TRANSLATION_COMMENTED: Told(
        "a language model answered with more lines than the sentence has",
        "take a model that answers with the translation alone",
    ),
    Reason.TAGGING_FAILED: Told(
        "a language model's answer is cut off, malformed, or not about the sentence",
        "take another model or other meanings under tag.labels; --retry-rejects tries again",
    ),
    Reason.TRANSLATION_REPEATS: Told(_REPEATS, _TRANSLATED),
    Reason.TRANSLATION_COPIED: Told(_COPIED, _TRANSLATED),
    Reason.TRANSLATION_WRONG_SCRIPT: Told(_SCRIPT, _TRANSLATED),
    Reason.TRANSLATION_LENGTH: Told(_LENGTH, _TRANSLATED),
    Reason.TRANSLATION_LOST_DIGITS: Told(_DIGITS, _TRANSLATED),
    Reason.TRANSLATION_LANGUAGE: Told(_LANGUAGE, _TRANSLATED),
    Reason.WORD_TOO_LONG: Told(
        "one word has more subwords than the encoder reads",
        "cut the word, often an address or a table: the encoder reads no more subwords",
    ),
    Reason.INCOMPLETE: Told(
        "an entity is missing on the target side, and output.incomplete says reject",
        "output.incomplete: keep publishes such rows, split puts them into a split of their own; output.doubtful says "
        "which scores are too low",
    ),
    Reason.IMAGE_MISSING: Told(_MISSING, _PICTURE),
    Reason.IMAGE_BROKEN: Told(_BROKEN, _PICTURE),
    Reason.IMAGE_REFUSED: Told(_REFUSED, _ROOTS),
    Reason.IMAGE_TOO_LARGE: Told(_LARGE, _SMALLER),
    Reason.STAGE_ERROR: Told(
        "a stage failed on this very row", "mend what the detail names, then project --retry-rejects stage_error"
    ),
}

FLAGS: Mapping[Flag, Told] = {
    Flag.SNAPPED: Told(
        "the edges of a span were moved to the edges of words", "nothing; if it is often, check input.offsets"
    ),
    Flag.TOKENS_MENDED: Told("blanks were dropped, words cut at white space, or marks joined to a word", "nothing"),
    Flag.SENTENCES_JOINED: Told("a span crosses sentences, which therefore stay together", "nothing"),
    Flag.BY_LLM: Told(
        "a language model wrote the text or named the entities",
        "nothing; another run may give another text or other entities",
    ),
    Flag.MEMORY_HALVED: Told(
        "the row was made in smaller batches, after the device ran out of memory",
        "lower micro_batch_tokens to be quicker",
    ),
    Flag.BISECTED: Told(
        "the row was made in other batches, because a row beside it failed", "nothing; scores may differ by 1e-4"
    ),
    Flag.TRANSLATION_REPEATS: Told(_REPEATS, _FILTER),
    Flag.TRANSLATION_COPIED: Told(_COPIED, _FILTER),
    Flag.TRANSLATION_WRONG_SCRIPT: Told(_SCRIPT, _FILTER),
    Flag.TRANSLATION_LENGTH: Told(_LENGTH, _FILTER),
    Flag.TRANSLATION_LOST_DIGITS: Told(_DIGITS, _FILTER),
    Flag.TRANSLATION_LANGUAGE: Told(_LANGUAGE, _FILTER),
    Flag.BEAM_FULL: Told(
        "the search for an entity's place was full, so a place beyond it might count too", "raise constrained.beams"
    ),
    Flag.IMAGE_MISSING: Told(f"{_MISSING}; the row is text only", "mend the reference or the file"),
    Flag.IMAGE_BROKEN: Told(f"{_BROKEN}; the row is text only", "mend the reference or the file"),
    Flag.IMAGE_REFUSED: Told(f"{_REFUSED}; the row is text only", _ROOTS),
    Flag.IMAGE_TOO_LARGE: Told(f"{_LARGE}; the row is text only", _SMALLER),
    Flag.IMAGE_RELABELLED: Told(
        "the picture gave an entity another label than the text", "look at the row with explain"
    ),
    Flag.CONTEXT_CUT: Told(
        "a tagger has not read the end of the row's context",
        "shorten the context, or take a tagger that reads more",
    ),
    Flag.MARKER_UNOPENED: Told("a marked translation has a closing bracket too many", _BRACKETS),
    Flag.MARKER_UNCLOSED: Told("a marked translation has an opening bracket too many", _BRACKETS),
    Flag.MARKER_EMPTY: Told("a marked translation has a pair of brackets around nothing", _BRACKETS),
    Flag.MARKER_NESTED: Told("a marked translation has a pair of brackets around another pair", _BRACKETS),
    Flag.MARKER_INVENTED: Told("a marked translation has more pieces in brackets than entities", _BRACKETS),
}

LOSSES: Mapping[Loss, Told] = {
    Loss.NO_CANDIDATE: Told(
        "no target word is linked with the entity, or every place is longer than match.max_words",
        "take a better encoder, or raise match.max_words",
    ),
    Loss.OVERLAP: Told(
        "other entities took all its places", "nothing; match.per_entity may allow more places an entity"
    ),
    Loss.LOW_SCORE: Told(
        "no place scores more than match.min_score", "lower match.min_score, at the price of wrong places"
    ),
    Loss.INFEASIBLE: Told(
        "no solution gives every entity as many places as match.per_entity asks for", 'take an upper limit, "<=1"'
    ),
    Loss.NESTED: Told(
        "the entity is inside another one, and the outermost is projected", "nothing: the row cannot hold both"
    ),
    Loss.OVERLAPPING_SPAN: Told(
        "the entity crosses a longer one, and the longer is projected", "nothing: the row cannot hold both"
    ),
    Loss.MARKER_NOT_TRANSLATED: Told(
        "the marked sentence, or the entity alone, has no translation", "look at the translator"
    ),
    Loss.MARKER_LOST: Told(
        "no marked piece of the translation is left for the entity", "take another translator, or projector match"
    ),
    Loss.MARKER_NOT_SIMILAR: Told(
        "marked pieces are left, but none is similar enough to the entity", "lower translate.min_similarity"
    ),
    Loss.MARKER_OVERLAP: Told(
        "the entity's piece shares a word with a longer or earlier one", "nothing: a word has one label"
    ),
    Loss.MARKER_UNLIKELY: Told(
        "markers are far less probable at any place than no markers at all", "take projector match"
    ),
    Loss.MARKER_TOO_LONG: Told("the sentence with markers is longer than the model reads", "cut the sentence"),
    Loss.OUTVOTED: Told("one of the runs has the entity, the combined run does not", "give combine other weights"),
}

_BY_NAME: Mapping[str, Mapping[str, Told]] = {
    name: {str(code): told for code, told in table.items()}
    for name, table in (("reason", REASONS), ("flag", FLAGS), ("loss", LOSSES))
}


def told(kind: str, code: str) -> Told | None:
    """Return a code of a kind (`reason`, `flag` or `loss`) in words; None for one of a later version.

    >>> told("loss", "low_score").means
    'no place scores more than match.min_score'
    """
    return _BY_NAME[kind].get(code)


def cure(reason: str) -> str:
    """Return what to do about rows that were rejected for a reason; "" for one of a later version."""
    found = told("reason", reason)
    return found.cure if found else ""
