"""Sentences of the published sample data, and of CoNLL files elsewhere."""

from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "jobs" / "data"


def conll(path: Path) -> list[list[str]]:
    """Read the words of every sentence of a CoNLL file; tags are left out."""
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    return [[line.split()[0] for line in block.splitlines()] for block in blocks]
