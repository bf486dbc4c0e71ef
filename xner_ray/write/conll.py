"""CoNLL: a line a word, `token<TAB>tag` in IOB2, a blank line between sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xner_ray.errors import InputError
from xner_ray.write.entities import Row, tags


def write(rows: Iterable[Row], *, ids: bool = False) -> Iterator[str]:
    """Yield a sentence's lines and the blank line behind them; with `ids`, `# id = ...` before.

    InputError for what no CoNLL reader could read back: a token that is empty, holds white space or begins like the
    mark of a document, and a line break in an id.
    """
    for row in rows:
        if ids and len(row["id"].splitlines()) != 1:
            raise InputError(f"row {row['id']!r}: its id holds a line break; export without --ids, or as jsonl")
        lines = [f"# id = {row['id']}"] if ids else []
        for token, tag in zip(row["tokens"], tags(row), strict=True):
            if not token or any(character.isspace() for character in token):
                raise InputError(f"row {row['id']}: token {token!r} holds white space; export it as jsonl")
            if token.startswith("-DOCSTART-"):
                raise InputError(f"row {row['id']}: token {token!r} would begin a document; export it as jsonl")
            lines.append(f"{token}\t{tag}")
        yield "\n".join(lines) + "\n\n"
