"""One sentence at every stage, from its row: both sides, word links, candidates and fates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Group, RenderableType
from rich.text import Text

from xner_ray.data import row as data_row
from xner_ray.data.row import REJECTED, unmatchable
from xner_ray.errors import BEFORE_MATCHING, Flag, one_line
from xner_ray.match import projection, solver
from xner_ray.match.confidence import maps as confidence
from xner_ray.match.prior import Prior
from xner_ray.match.rows import Rows, read, seen
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Align
from xner_ray.report.shown import plain
from xner_ray.report.tables import Table, sentence
from xner_ray.vision.formula import LEAST

_MOST_CANDIDATES = 8
_FAULTS = (Flag.IMAGE_MISSING, Flag.IMAGE_BROKEN, Flag.IMAGE_REFUSED, Flag.IMAGE_TOO_LARGE)


def explain(
    row: Mapping[str, Any], first: pa.Table, recipe: Recipe, prior: Prior | None, labels: Sequence[str]
) -> Group:
    """Return a row as terminal output. first: the row after the first matching, as a table; prior: the second's."""
    parts: list[RenderableType] = [
        Text(plain(f"{row['id']}  row {row['row']}  {row['source_lang']} -> {row['lang']}"), "bold")
    ]
    if row["status"] == REJECTED:
        parts.append(Text(plain(f"rejected: {row['reason']}: {row['detail']}"), style="red"))
        parts += [Text(f"  {plain(row[name])}") for name in ("source_text", "text") if row[name]]
        return Group(*parts)
    hidden = unmatchable(row)  # their words are shared with others
    shown = [span for index, span in enumerate(row["source_spans"] or ()) if index not in hidden]
    if row["source_tokens"] is not None:
        parts.append(Text("source  ") + sentence(row["source_tokens"], shown, labels))
    if row.get("image") is not None:
        parts += _pictures(row, recipe)
    if row["bridge_tokens"] is not None:
        parts.append(Text("bridge  ") + sentence(row["bridge_tokens"], row["bridge_spans"], labels))
    parts.append(Text("target  ") + sentence(row["tokens"], row["spans"], labels))
    if row["translation_score"] is not None:
        parts.append(Text(f"translation score {row['translation_score']:.3f} (mean token log-probability)"))
    if row["gold_spans"] is not None:
        parts.append(Text("gold    ") + sentence(row["tokens"], row["gold_spans"], labels))
    if recipe.projector != "match":
        for span in row["spans"]:
            words = _words(row["tokens"], span["start"], span["end"])
            parts.append(Text(f"[{span['start']}, {span['end']}) {words!r} {span['label']}, score {span['score']:.4f}"))
    elif not row["source_spans"]:
        parts.append(Text("no entity on the source side: nothing was aligned or matched"))
        return Group(*parts)
    else:
        parts += _candidates(row, first, recipe, prior)
    for lost in row["unprojected"] or ():
        if recipe.projector != "match" or lost["reason"] in BEFORE_MATCHING:  # the others are among the candidates
            span = row["source_spans"][lost["source"]]
            words = _words(row["source_tokens"], span["start"], span["end"])
            parts.append(Text(f"entity {lost['source']} {words!r}: {lost['reason']}, not projected"))
    parts.append(
        Text(f"objective {row['objective']:.4f}, {'optimal' if row['optimal'] else 'not proven'}, by {row['solver']}")
    )
    return Group(*parts)


def _pictures(row: Mapping[str, Any], recipe: Recipe) -> list[RenderableType]:
    """Return what the picture says of each entity's labels, and what another one would have said."""
    faults = [flag for flag in row["flags"] or () if flag in _FAULTS]
    state = f"SHA-256 {row['image_id'][:12]}" if row["image_id"] else ", ".join(faults) or "not looked at"
    parts: list[RenderableType] = [Text(f"picture {plain(one_line(row['image'], 120))}: {state}")]
    evidence: dict[int, list[Mapping[str, Any]]] = {}
    for cell in row["image_evidence"] or ():
        evidence.setdefault(cell["source"], []).append(cell)
    boxes = {cell["source"]: cell for cell in row["image_boxes"] or ()}
    for judged in row["image_labels"] or ():
        span = row["source_spans"][judged["source"]]
        title = f"entity {judged['source']} {_words(row['source_tokens'], span['start'], span['end'])!r}: "
        title += f"{judged['text']} by the text, {judged['image']} with the picture"
        title += f", {judged['exchanged']} with another one" if judged["exchanged"] else ""
        parts.append(Text(title, "bold"))
        if (box := boxes.get(judged["source"])) is not None:
            ends = " ".join(f"{box[end]:.2f}" for end in ("x0", "y0", "x1", "y1"))
            parts.append(Text(f"box [{ends}] of the picture, score {box['score']:.4f}"))
        table = Table("what moves the label", ["label"], ["text", "picture", "together"])
        for cell in evidence.get(judged["source"], ()):
            together = math.log(max(cell["text"], LEAST)) + recipe.image.weight * cell["image"]
            table.add_row(
                cell["label"],
                f"{cell['text']:.4f}",
                f"{cell['image']:+.4f}",
                f"{together:.4f}",
                style="bold green" if cell["label"] == judged["image"] else "",
            )
        table.notes = [f"together: log of text + {recipe.image.weight:g} x picture; the text's label wins ties"]
        parts.append(table)
    return parts


def _links(row: Mapping[str, Any], rows: Rows, entity: range, align: Align) -> Table:
    """Return the stored links between target words and an entity's source words, hard links marked."""
    links = rows.links
    marked = links.hard(align.method)
    hard = set(zip(marked.source.tolist(), marked.target.tolist(), strict=True))
    values = zip(*(each.tolist() for each in (links.source, links.target, links.forward, links.backward)), strict=True)
    cells = {(s, t): f"{'*' if (s, t) in hard else ''}{f:.2f} {b:.2f}" for s, t, f, b in values}
    title = f"links: forward and backward probability, * {align.method}"
    if align.backend == "provided":
        title = "links: as given, probability shared evenly by the links of a word"
    source = rows.source_tokens[0].as_py()
    table = Table(title, [""], [f"{word} {plain(source[word])}" for word in entity])
    for target in sorted({t for s, t in cells if s in entity}):
        table.add_row(f"{target} {plain(row['tokens'][target])}", *[cells.get((word, target), "") for word in entity])
    return table


def _candidates(row: Mapping[str, Any], first: pa.Table, recipe: Recipe, prior: Prior | None) -> list[RenderableType]:
    rows, settings, method = read(first), recipe.match, recipe.align.method
    entities = [range(*ends) for ends in zip(rows.batch.start.tolist(), rows.batch.end.tolist(), strict=True)]
    if settings.solver == "heuristic":
        return [_links(row, rows, entity, recipe.align) for entity in entities]
    scored, found = projection.matched(rows, settings, method, prior)
    fates: dict[int, list[solver.Explained]] = {}
    for fate in solver.explain(scored, found, rows.batch.row, per_entity=settings.per_entity):
        fates.setdefault(fate.cell[0], []).append(fate)
    reasons = dict(found.unprojected)
    why = _why(rows, found, recipe, prior=prior is not None) if settings.calibrated else {}
    # Scores by models and plug-ins; the others follow from links and tags.
    given = sorted({*settings.scores, *settings.filters} - {*projection.BOUNDS} | {"likelihood"} & {*settings.scores})
    said = {(c["score"], c["source"], c["start"], c["end"]): c["value"] for c in row["evidence"] or ()}
    parts: list[RenderableType] = []
    for entity, words in enumerate(entities):
        source = int(rows.source[entity])
        span = row["source_spans"][source]
        title = f"entity {source} {_words(row['source_tokens'], span['start'], span['end'])!r} {span['label']}"
        if entity in reasons:
            title += f": not projected, {reasons[entity]}"
        parts += [Text(title, "bold"), _links(row, rows, words, recipe.align)]
        if entity not in fates:
            continue
        table = Table("candidates", ["candidate", "words", "fate"], [*given, "score"])
        cells = fates[entity]
        for fate in cells[:_MOST_CANDIDATES]:
            _, start, end, score = fate.cell
            chosen = fate.status == "chosen"
            rival = None if fate.status == "lower score" else fate.lost_to  # the rows above scored higher
            lost = f" ({_words(row['tokens'], *rival[1:3])!r})" if rival else ""
            table.add_row(
                f"[{start}, {end})",
                _words(row["tokens"], start, end),
                fate.status + lost,
                *(f"{said.get((name, source, start, end), 0.0):.4f}" for name in given),
                f"{score / data_row.SCALE:.4f}",
                style="bold green" if chosen else "",
            )
        if len(cells) > _MOST_CANDIDATES:
            table.notes = [f"and {len(cells) - _MOST_CANDIDATES} more with lower scores"]
        parts.append(table)
        if entity in why:
            parts.append(why[entity])
    return parts


def _why(rows: Rows, found: solver.Solution, recipe: Recipe, *, prior: bool) -> dict[int, Text]:
    """Return for each placed entity the probability that it is right, and what that is made of."""
    sights = seen(rows, found.chosen, labelled=recipe.labelled)
    added, likely = confidence.terms(sights, prior=prior), confidence.probabilities(sights, prior=prior)
    lines = {}
    for at, entity in enumerate(found.chosen.entity.tolist()):
        each = ", ".join(f"{name} {values[at]:+.2f}" for name, values in added.items() if abs(values[at]) >= 0.005)
        lines[entity] = Text(f"score {likely[at]:.4f}: the probability that it is right; log-odds: {each}")
    return lines


def _words(tokens: Sequence[str], start: int, end: int) -> str:
    return plain(" ".join(tokens[start:end]))
