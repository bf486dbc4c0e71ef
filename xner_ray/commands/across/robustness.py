"""The command `robustness`: F1, losses and scores of finished runs by language, script, family and distance."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import pyarrow as pa
import pyarrow.compute as pc

from xner_ray import defaults
from xner_ray.commands.compare import short_names
from xner_ray.commands.inspect import read_index, tables
from xner_ray.data import languages
from xner_ray.data.arrow import is_text
from xner_ray.data.typology.typology import UNKNOWN
from xner_ray.errors import InputError, RunFolderError
from xner_ray.evaluate import robust_counts
from xner_ray.evaluate import robustness as core
from xner_ray.evaluate.robust_counts import Tally
from xner_ray.evaluate.robustness import Key, Robustness
from xner_ray.run.folder import RunFolder

DOMAIN = "domain"
OTHER = "other"


def robustness(
    runs: Sequence[str | os.PathLike[str]],
    *,
    doubtful: float = defaults.DOUBTFUL,
    domains: Mapping[str, str] | None = None,
    source: str | None = None,
    samples: int = defaults.SAMPLES,
    seed: int = 0,
) -> Robustness:
    """Return how F1, losses and scores of finished runs differ between languages and groups of them.

    The runs need not be over the same sentences or languages. doubtful: an entity is, with a score below this.
    domains: name -> pattern of documents' ids, the first that fits; without them the column `domain` that the rows may
    carry. source: the language that distances are measured from, by default the source language of the rows. samples,
    seed: of the bootstrap. RunFolderError for a run that is not finished or listed twice, DamageError, InputError for a
    pattern that no document fits.
    """
    if not runs:
        raise InputError("robustness: no run; allowed: one or more run folders")
    if not 0 <= doubtful <= 1:
        raise InputError(f"--doubtful {doubtful:g}: no score is there; allowed: 0 to 1")
    from_lang = None if source is None else languages.resolve(source, key="--source")
    folders = [RunFolder(os.fspath(run)) for run in runs]
    places = [folder.place for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise RunFolderError(f"{os.fspath(runs[number])} is listed twice; name each run once")
    for folder in folders:
        folder.require_sealed()
    names = short_names([os.fspath(run) for run in runs])
    tallies: dict[Key, Tally] = {}
    used: set[str] = set()
    for name, folder in zip(names, folders, strict=True):
        index = read_index(folder)
        carries = any(column.name == DOMAIN and is_text(column.type) for column in index.extra)
        wanted = [*robust_counts.COLUMNS, *([DOMAIN] if carries and not domains else ())]
        for table in tables(folder, index.units, wanted):
            for lang in table.column("lang").unique().to_pylist():
                rows = table.filter(pc.equal(table.column("lang"), lang))
                tallies.setdefault((name, lang, None), Tally(doubtful)).add(rows)
                for domain, some in _by_domain(rows, domains or {}).items():
                    used.add(domain)
                    tallies.setdefault((name, lang, domain), Tally(doubtful)).add(some)
    if unused := [each for each in domains or {} if each not in used]:
        raise InputError(
            f"--domain {unused[0]}={(domains or {})[unused[0]]}: no document's id fits, or an earlier pattern takes "
            "all that do; allowed: patterns as press-*, tried in their order"
        )
    return core.robustness(tallies, names, doubtful=doubtful, samples=samples, seed=seed, source=from_lang)


def _by_domain(rows: pa.Table, domains: Mapping[str, str]) -> dict[str, pa.Table]:
    """Return the rows of each domain; none where nothing says of domains."""
    if domains:
        names = [_domain_of(doc, domains) for doc in rows.column("doc_id").to_pylist()]
    elif DOMAIN in rows.schema.names:
        names = [name or UNKNOWN for name in rows.column(DOMAIN).to_pylist()]
    else:
        return {}
    of_row = pa.array(names, pa.string())
    return {name: rows.filter(pc.equal(of_row, name)) for name in dict.fromkeys(names)}


def _domain_of(doc: str | None, domains: Mapping[str, str]) -> str:
    if doc is None:
        return UNKNOWN
    return next((name for name, pattern in domains.items() if fnmatchcase(doc, pattern)), OTHER)
