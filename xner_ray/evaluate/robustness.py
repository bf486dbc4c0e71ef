"""Robustness across languages: F1, losses and scores of each language, and by script, family, resources and distance.

A group's mean is unweighted, over the languages of the runs that have the figure: a small language counts as a large
one does. Intervals resample sentences (or documents, where a language has enough of them) in each language alone, and a
group's are those of the mean of its languages' resamples: they say what other sentences of the same languages would
give, not what other languages would.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from xner_ray import defaults
from xner_ray.data.arrow import Floats, Ints
from xner_ray.data.languages import LANGUAGES
from xner_ray.data.row import SCALE
from xner_ray.data.typology import typology
from xner_ray.data.typology.typology import UNKNOWN
from xner_ray.evaluate import robust_counts as columns
from xner_ray.evaluate.bootstrap import CONFIDENCE, Interval, interval, resampled_sums
from xner_ray.evaluate.calibration import calibration
from xner_ray.evaluate.robust_counts import Tally, by_document
from xner_ray.evaluate.scores import FEWEST_DOCUMENTS, SCHEME, By

FIGURES = ("f1", "missing", "doubtful", "score", "overconfidence", "calibration_error")
"""f1: needs gold. missing: share of source entities without a place. doubtful: share of entities with a score below
the bar. score: mean score. overconfidence: mean score minus the share that is right, needs gold. calibration_error:
needs gold too; it has no interval, because a resample's own error is larger than that of the data by its noise."""
DIMENSIONS = (
    *("all", "run", "script", "family", "resources", "words", "direction", "distance", "source script"),
    *("source family", "names kept", "domain"),
)
_LOWER_IS_WORSE = ("f1", "score")
_DISTANCES = (0.2, 0.35)
_KEPT = (0.1, 0.5)


@dataclass(frozen=True)
class Figure:
    """One figure of one language, in 0..1; overconfidence may be negative."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One language of one run, or one domain of it.

    name: the code, with the run's name where several runs have the language. source: its source language; None if its
    rows name none or several. distance: syntactic (`typology.syntactic_distance`). names_kept: share of source entities
    whose words stand unchanged in the sentence; None where no row has both sides. rows: without duplicates; rejected,
    with_gold: of these. items: what an interval draws, and by: what that is. source_entities: those to be placed.
    entities: those of the rows that are not rejected. missing: source entities without a place, by reason. figures:
    those of `FIGURES` that the language has.
    """

    name: str
    run: str
    lang: str
    domain: str | None
    script: str
    direction: str
    spaces: bool
    family: str
    resources: str
    source: str | None
    distance: float | None
    names_kept: float | None
    rows: int
    rejected: int
    with_gold: int
    items: int
    by: By
    source_entities: int
    entities: int
    missing: dict[str, int]
    figures: dict[str, Figure]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One figure over a group's languages. worst: a name. range: largest minus smallest; sd: over the languages, n - 1.

    Of overconfidence the worst is the one furthest from 0. range and sd are None for one language.
    """

    languages: int
    mean: float
    interval: Interval | None
    worst: str
    worst_value: float
    range: float | None
    sd: float | None


@dataclass(frozen=True)
class Group:
    """The languages of one script, family, ...; figures: those that any of them has."""

    dimension: str
    name: str
    members: list[str]
    figures: dict[str, Spread]


@dataclass(frozen=True)
class Robustness:
    """languages: one entry a language and run. domains: one a language, run and domain. groups: by `DIMENSIONS`."""

    scheme: str
    confidence: float
    samples: int
    seed: int
    doubtful: float
    runs: list[str]
    languages: list[Entry]
    domains: list[Entry]
    groups: list[Group] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `robustness --json` prints it."""
        return asdict(self)


Key = tuple[str, str, str | None]
"""The name of a run, a language, a domain or None for all rows."""


def robustness(
    tallies: Mapping[Key, Tally],
    runs: Sequence[str],
    *,
    doubtful: float,
    samples: int = defaults.SAMPLES,
    seed: int = 0,
    source: str | None = None,
) -> Robustness:
    """Return figures by language and by group. samples: 0 for no intervals. source: as of the command."""
    langs = [lang for _, lang, domain in tallies if domain is None]
    made: list[tuple[Entry, dict[str, Floats]]] = []
    seen: dict[tuple[str, str | None], int] = {}
    for (run, lang, domain), tally in sorted(tallies.items(), key=lambda one: (one[0][1], runs.index(one[0][0]))):
        if not tally.cells:
            continue
        seen[lang, domain] = seen.get((lang, domain), 0) + 1
        names = (lang if langs.count(lang) == 1 else f"{lang} ({run})", run, lang, domain)
        parts = [seed, zlib.crc32(lang.encode()), zlib.crc32((domain or "").encode()), seen[lang, domain]]
        own_seed = int(np.random.SeedSequence(parts).generate_state(1)[0])
        made.append(_entry(names, tally, source, samples, own_seed))
    whole = [one for one in made if one[0].domain is None]
    of_domains = [one for one in made if one[0].domain is not None]
    groups = []
    for dimension in DIMENSIONS:
        named: dict[str, list[tuple[Entry, dict[str, Floats]]]] = {}
        for one in of_domains if dimension == "domain" else whole:
            named.setdefault(_group(dimension, one[0]), []).append(one)
        if dimension == "run" and len(runs) == 1:
            continue
        groups += [_grouped(dimension, name, named[name]) for name in sorted(named, key=_order)]
    entries, domains = ([entry for entry, _ in some] for some in (whole, of_domains))
    return Robustness(SCHEME, CONFIDENCE, samples, seed, doubtful, list(runs), entries, domains, groups)


def _figures(sums: Ints) -> dict[str, Floats]:
    """Map sums [..., CELLS] to figures [...], NaN where there is nothing to divide by."""
    cell = np.moveaxis(sums.astype(np.float64), -1, 0)

    def share(part: Floats, whole: Floats) -> Floats:
        return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)

    return {
        "f1": share(2 * cell[columns.EXACT], cell[columns.PREDICTED] + cell[columns.GOLD]),
        "missing": share(cell[columns.MISSING], cell[columns.SOURCE]),
        "doubtful": share(cell[columns.DOUBTFUL], cell[columns.SCORED]),
        "score": share(cell[columns.SCORES] / SCALE, cell[columns.SCORED]),
        "overconfidence": share(cell[columns.JUDGED_SCORES] / SCALE - cell[columns.RIGHT], cell[columns.JUDGED]),
    }


def _entry(
    names: tuple[str, str, str, str | None], tally: Tally, source: str | None, samples: int, seed: int
) -> tuple[Entry, dict[str, Floats]]:
    """Return an entry, and the resamples of its figures."""
    name, run, lang, domain = names
    cells = np.concatenate(tally.cells)
    items, documents = by_document(cells, np.concatenate(tally.docs), FEWEST_DOCUMENTS)
    total = cells.sum(axis=0)
    drawn = _figures(resampled_sums(items, samples=samples, seed=seed))
    # An item that lacks what a figure is of says nothing of it, and one alone has no interval
    holding = {
        figure: int((~np.isnan(values)).sum()) if len(items) else 0 for figure, values in _figures(items).items()
    }
    found = {
        figure: Figure(float(value), interval(drawn[figure]) if samples and holding[figure] > 1 else None)
        for figure, value in _figures(total).items()
        if not np.isnan(value)
    }
    judged = calibration(tally.histogram)
    if judged is not None:
        found["calibration_error"] = Figure(judged.error, None)
    from_lang = source or (next(iter(tally.sources)) if len(tally.sources) == 1 else None)
    language, known = LANGUAGES.get(lang), typology.of(lang)
    entry = Entry(
        name=name,
        run=run,
        lang=lang,
        domain=domain,
        script=language.script if language else UNKNOWN,
        direction=language.direction if language else UNKNOWN,
        spaces=language.spaces if language else True,
        family=known.family,
        resources=known.resources,
        source=from_lang,
        distance=None if from_lang is None else typology.syntactic_distance(from_lang, lang),
        names_kept=tally.unchanged / tally.looked_at if tally.looked_at else None,
        rows=len(cells),
        rejected=tally.rejected,
        with_gold=tally.with_gold,
        items=len(items),
        by="doc" if documents else "sentence",
        source_entities=int(total[columns.SOURCE]),
        entities=tally.entities,
        missing=dict(sorted(tally.missing.items(), key=lambda one: (-one[1], one[0]))),
        figures=found,
    )
    return entry, {figure: drawn[figure] for figure in found if figure in drawn}


def _group(dimension: str, entry: Entry) -> str:
    """Return the name of the group of an entry."""
    source = LANGUAGES.get(entry.source or "")
    if dimension == "words":
        return "spaces" if entry.spaces else "no spaces"
    if dimension == "distance":
        return _bin(entry.distance, _DISTANCES)
    if dimension == "names kept":
        return _bin(entry.names_kept, _KEPT)
    if dimension == "source script":
        return UNKNOWN if source is None else "same" if source.script == entry.script else "other"
    if dimension == "source family":
        families = {entry.family, typology.of(entry.source or "").family}
        return UNKNOWN if UNKNOWN in families else "same" if len(families) == 1 else "other"
    return "languages" if dimension == "all" else str(getattr(entry, dimension))


def _bin(value: float | None, edges: tuple[float, float]) -> str:
    """Return the name of the range that a value is in.

    >>> _bin(0.2, (0.2, 0.35)), _bin(None, (0.2, 0.35))
    ('0.20 to 0.35', 'unknown')
    """
    if value is None:
        return UNKNOWN
    low, high = (f"{edge:.2f}" for edge in edges)
    return f"below {low}" if value < edges[0] else f"{low} to {high}" if value < edges[1] else f"from {high}"


def _order(name: str) -> tuple[int, str]:
    """Sort ranges by their values, and what is unknown last."""
    first = {"below": 0, "from": 2}.get(name.split(" ")[0], 1)
    return (3 if name == UNKNOWN else first, name)


def _grouped(dimension: str, name: str, members: Sequence[tuple[Entry, dict[str, Floats]]]) -> Group:
    figures = {}
    for figure in FIGURES:
        having = [(entry, drawn.get(figure)) for entry, drawn in members if figure in entry.figures]
        if not having:
            continue
        values = np.array([entry.figures[figure].value for entry, _ in having])
        badness = np.abs(values) if figure == "overconfidence" else values * (-1 if figure in _LOWER_IS_WORSE else 1)
        worst = int(badness.argmax())
        draws = [drawn for entry, drawn in having if drawn is not None and entry.figures[figure].interval is not None]
        several = len(values) > 1
        figures[figure] = Spread(
            languages=len(values),
            mean=float(values.mean()),
            interval=interval(np.mean(draws, axis=0)) if len(draws) == len(values) else None,
            worst=having[worst][0].name,
            worst_value=float(values[worst]),
            range=float(values.max() - values.min()) if several else None,
            sd=float(values.std(ddof=1)) if several else None,
        )
    return Group(dimension, name, [entry.name for entry, _ in members], figures)
