"""A sentence in which characters, UTF-16 units, bytes and grapheme clusters all count otherwise, as a published row."""

from typing import Any

from xner_ray.data.words import locate

TEXT = "👨🏻‍🚒 Ana  María\tva 😀 a Málaga."
TOKENS = ["👨🏻‍🚒", "Ana", "María", "va", "😀", "a", "Málaga", "."]


def row(
    text: str = TEXT, tokens: list[str] | None = None, spans: tuple[tuple[int, int, str], ...] = (), **others: Any
) -> dict[str, Any]:
    """A row as the published files have it, with what the writers need. spans: words, and a label."""
    tokens = TOKENS if tokens is None else tokens
    places = locate(tokens, text)
    assert places is not None
    return {
        "id": "doc 1/ö",
        "lang": "spa_Latn",
        "text": text,
        "source_text": "The fireman Ana María goes to Málaga.",
        "tokens": tokens,
        "offsets": [{"start": start, "end": end} for start, end in places],
        "spans": [
            {"start": start, "end": end, "label": label, "score": 0.87654321, "source": number}
            for number, (start, end, label) in enumerate(spans)
        ],
        **others,
    }


ROW = row(spans=((1, 3, "PER"), (6, 7, "LOC")))
PLAIN = row("Nada", ["Nada"], id="2")  # no entity
