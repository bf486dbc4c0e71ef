"""Alignment error rate, and readers for the gold files of the development data.

AER = 1 - (|A & S| + |A & P|) / (|A| + |S|)        (Och and Ney 2003; P includes S)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Pairs = set[tuple[int, int]]


@dataclass(frozen=True)
class Gold:
    """One sentence pair; word indices are 0-based, `possible` includes `sure`."""

    source: list[str]
    target: list[str]
    sure: Pairs
    possible: Pairs


@dataclass(frozen=True)
class Rates:
    precision: float
    recall: float
    aer: float


def rates(links: Sequence[Pairs], gold: Sequence[Gold]) -> Rates:
    """Over the whole set, not the mean of sentences."""
    n_links = sum(map(len, links))
    n_sure = sum(len(g.sure) for g in gold)
    in_sure = sum(len(a & g.sure) for a, g in zip(links, gold, strict=True))
    in_possible = sum(len(a & g.possible) for a, g in zip(links, gold, strict=True))
    return Rates(in_possible / n_links, in_sure / n_sure, 1 - (in_sure + in_possible) / (n_links + n_sure))


def pharaoh(line: str, separators: str = "-", base: int = 0) -> Pairs:
    """`0-0 1-2` as pairs; `p` marks a possible link where `separators` allows it.

    >>> sorted(pharaoh("1-1 2p3", "-p", 1))
    [(0, 0), (1, 2)]
    """
    pairs = set()
    for word in line.split():
        separator = next((s for s in "-p" if s in word), "-")
        if separator in separators:
            i, j = word.split(separator)
            pairs.add((int(i) - base, int(j) - base))
    return pairs


def read_gold(folder: Path, name: str) -> list[Gold]:
    """`gold-alignments`: enfr or roen (1-based, `-` sure, `p` possible) or enhi (JSON lines, 0-based)."""
    if name == "enhi":
        records = [json.loads(line) for line in (folder / "enhi.jsonl").read_text("utf-8").splitlines()]
        pairs = [{(i, j) for i, j in record["alignment"]} for record in records]
        return [Gold(r["src_words"], r["tgt_words"], p, p) for r, p in zip(records, pairs, strict=True)]
    texts = [line.split(" ||| ") for line in (folder / f"{name}.src-tgt").read_text("utf-8").splitlines()]
    lines = (folder / f"{name}.gold").read_text("utf-8").splitlines()
    return [
        Gold(source.split(), target.split(), pharaoh(line, "-", 1), pharaoh(line, "-p", 1))
        for (source, target), line in zip(texts, lines, strict=True)
    ]


def read_xl_wa(path: Path) -> list[Gold]:
    """`xl-wa-dev`: source, target and 0-based sure links, separated by tabs."""
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line]
    return [Gold(s.split(), t.split(), pharaoh(links), pharaoh(links)) for s, t, links in rows]
