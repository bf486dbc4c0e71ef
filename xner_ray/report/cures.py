"""What to do about rejected rows, by their reason."""

from __future__ import annotations

from xner_ray.errors import Reason

_TRANSLATED = "look at the translation; translate.health says whether it rejects the row, or flags it"
_PICTURE = "mend the reference or the file; input.images.missing: flag keeps such rows, without a picture"
_CURES: dict[Reason, str] = {
    Reason.MALFORMED: "mend the record, or say how the file is written: input.format, input.columns",
    Reason.BAD_UTF8: "convert the file to UTF-8, as with iconv -f latin1 -t utf-8",
    Reason.ILLEGAL_TAG: "mend the tag, or say how tags are written: input.scheme, or input.columns.tags for the column",
    Reason.CONTROL_CHARACTER: "remove the character, as with tr -d '\\000-\\010'",
    Reason.EMPTY: "give the sentence a word, or leave it out on both sides",
    Reason.TOO_LONG: "cut documents (input.split: sentences, or blank lines), or raise input.max_words",
    Reason.BAD_SPAN: "mend the span, or say what its numbers count: input.offsets, input.ends",
    Reason.BAD_TOKEN: "part words by single blanks, as the aligner that made input.links read them",
    Reason.DUPLICATE_ID: "give each row of a split an id of its own, or leave ids out: then file and line are the id",
    Reason.LEFT_OUT: "nothing, if the file is right that it is no gold; input.answers says which answers count",
    Reason.SOURCE_TOO_LONG: "cut the sentence: the translator reads no more subwords",
    Reason.TRANSLATION_EMPTY: "look at the sentence: the translator found nothing to say",
    Reason.TRANSLATION_TRUNCATED: "raise translate.max_new_tokens, or cut the sentence",
    Reason.TRANSLATION_COMMENTED: "take a model that answers with the translation alone",
    Reason.TAGGING_FAILED: "take another model or other meanings under tag.labels; --retry-rejects tries again",
    Reason.TRANSLATION_REPEATS: _TRANSLATED,
    Reason.TRANSLATION_COPIED: _TRANSLATED,
    Reason.TRANSLATION_WRONG_SCRIPT: _TRANSLATED,
    Reason.TRANSLATION_LENGTH: _TRANSLATED,
    Reason.TRANSLATION_LOST_DIGITS: _TRANSLATED,
    Reason.TRANSLATION_LANGUAGE: _TRANSLATED,
    Reason.WORD_TOO_LONG: "cut the word, often an address or a table: the encoder reads no more subwords",
    Reason.INCOMPLETE: "output.incomplete: keep publishes such rows, split puts them into a split of their own; "
    "output.doubtful says which scores are too low",
    Reason.IMAGE_MISSING: _PICTURE,
    Reason.IMAGE_BROKEN: _PICTURE,
    Reason.IMAGE_REFUSED: "put pictures below the input's folder or input.images.roots, as JPEG, PNG, WebP, GIF or BMP",
    Reason.IMAGE_TOO_LARGE: "make the picture smaller, or raise input.images.max_mb or max_pixels",
    Reason.STAGE_ERROR: "mend what the detail names, then project --retry-rejects stage_error",
}


def cure(reason: str) -> str:
    """Return what to do about rows that were rejected for a reason; "" for one of a later version."""
    return _CURES[Reason(reason)] if reason in set(Reason) else ""
