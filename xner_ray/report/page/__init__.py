"""report.html: one page about a run, for which a browser is enough: no network, no server.

Everything is made here, before the page is opened: tables, charts as SVG, and the sample of sentences. So the page can
be read without JavaScript; its small script filters, pages and shows which words are linked. All text of the input goes
through Jinja's autoescaping. The page's Content-Security-Policy allows no loading, and no script but the one whose hash
it names.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xner_ray.data.languages import LANGUAGES
from xner_ray.evaluate.scores import Evaluations
from xner_ray.report.colours import look
from xner_ray.report.cures import told
from xner_ray.report.page import charts, sentences
from xner_ray.report.page.charts import Driver, drivers, throughput
from xner_ray.report.page.sampling import STEP, Sample
from xner_ray.report.page.templates import environment
from xner_ray.report.tables import Table, score_sections, scores_table, stages_table
from xner_ray.run.counters import Language, Report

__all__ = ["About", "Driver", "Sample", "drivers", "render"]

SAMPLE_BYTES = 2_000_000  # of the sentences' HTML, so that the whole page stays under 3 MB
_MOST_LINES = 300  # of a table
_MOST_LOSSES = 60  # of a group
_WHOLE = 1 - 1e-9
_CONTENTS = [
    (name.lower(), name)
    for name in ("Overview", "Languages", "Scores", "Losses", "Throughput", "Distributions", "Labels", "Sentences")
]


@dataclass(frozen=True)
class About:
    """The head of the page. looked_at: the rows and units that scores, distributions and sentences come from."""

    name: str
    facts: Sequence[tuple[str, Sequence[str]]]  # a name, and its lines
    sealed: bool
    units_done: int
    units: int
    rows_looked_at: int
    units_looked_at: int
    made: Sequence[str] = ()  # how, a line a step
    licences: Sequence[str] = ()
    test_models: Sequence[str] = ()

    @property
    def all_looked_at(self) -> bool:
        return self.units_looked_at == self.units_done


def render(
    about: About,
    report: Report,
    evaluations: Evaluations | None,
    sample: Sample,
    drivers: Sequence[Driver],
    thumbnail: sentences.Thumbnail = lambda row: None,
) -> bytes:
    """Render the page. report: of all finished units; evaluations, sample: of the rows looked at.

    thumbnail: returns the address `data:` of a small copy of a row's picture. The same arguments give the same bytes.
    """
    templates = environment()
    labels = list(report.labels["kept"])
    template = templates.get_template("sentence.html")
    shown, size = [], 0
    chosen = sample.chosen()
    for row in chosen:
        text = template.render(sentence=sentences.view(row, labels, thumbnail))
        size += len(text.encode())
        if size > SAMPLE_BYTES:
            break
        shown.append(text)
    style, script = (templates.get_template(name).render() for name in ("page.css", "page.js"))
    html = templates.get_template("page.html").render(
        about=about,
        report=report,
        languages=[_language(lang, counters, sample) for lang, counters in report.languages.items()],
        names={lang: LANGUAGES[lang].name if lang in LANGUAGES else "" for lang in report.languages},
        scores=scores_table(evaluations) if evaluations else None,
        evaluations=evaluations,
        overall=(evaluations.macro or evaluations[0]).overall if evaluations else None,
        whiskers=list(_whiskers(evaluations)) if evaluations else [],
        reliability=[charts.reliability(e.lang, e.calibration) for e in evaluations or () if e.calibration],
        stages=stages_table(report.stages),
        losses=_losses(report, {code for row in chosen[: len(shown)] for code in _codes(row)}),
        by_language=_losses_by_language(report),
        alone=[(lang, use["rows"]) for lang, use in (report.priors or {}).items() if not use["used"]],
        contents=_CONTENTS,
        throughput=throughput(drivers, report.rows_per_second),
        distributions=_distributions(sample),
        labels=_labels(report, sample),
        label_names=[sentences.short(label, 40) for label in labels],
        sentences=shown,
        left_out=len(chosen) - len(shown),
        most_lines=_MOST_LINES,
        link=sentences.LEAST_LINK,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    return html.encode()


def _hash(text: str) -> str:
    """Return the name of an inline element in a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _language(lang: str, counters: Language, sample: Sample) -> dict[str, Any]:
    """Return a row of the table of languages."""
    entities, scores = counters["entities"], sample.scores_of(lang)
    return {
        "code": lang,
        "name": LANGUAGES[lang].name if lang in LANGUAGES else "",
        **counters["rows"],
        "entities": entities["source"],
        "projected": entities["projected"],
        "share": _share(entities["projected"], entities["source"]) if entities["source"] else None,
        "incomplete": counters["incomplete_rows"],
        "median": f"{charts.median(scores) * STEP:.2f}" if scores else "-",
    }


def _whiskers(evaluations: Evaluations) -> Iterator[dict[str, float]]:
    """Yield F1 and its interval, in percent, for each row of the table of scores."""
    for _, lines in score_sections(evaluations):
        for _, rates in lines:
            ends = {} if rates.f1_interval is None else asdict(rates.f1_interval)
            yield {name: round(100 * value, 1) for name, value in {"at": rates.f1, **ends}.items()}


def _codes(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons and flags of a row."""
    yield from (each["reason"] for each in row["unprojected"] or ())
    yield from row["flags"] or ()
    if row["reason"]:
        yield row["reason"]


def _losses(report: Report, in_sample: Collection[str]) -> list[dict[str, Any]]:
    """Return groups of losses and repairs, each with its lines: what, in words, count, shares of largest and whole.

    in_sample: the reasons and flags of the sentences on the page.
    """
    rows, entities = report.rows, report.entities
    groups = [
        ("Missing entities", "loss", entities["unprojected"], entities["source"], "source entities"),
        ("Rejected sentences", "reason", report.rejects, rows["read"], "sentences read"),
        ("Flags of sentences", "flag", report.flags, rows["emitted"], "sentences emitted"),
        ("Labels of the input that were not kept", "label", report.labels["dropped"], 0, ""),
    ]
    found = []
    for number, (title, what, counts, whole, of) in enumerate(groups):
        if not counts and number > 1:
            continue
        lines = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        most = max(counts.values(), default=0)
        cells = [
            {
                "what": sentences.short(str(name), 60),
                "told": None if what == "label" else told(what, str(name)),
                "in_sample": what != "label" and name in in_sample,
                "count": count,
                "bar": round(100 * _share(count, most), 1),
                "share": f"{100 * _share(count, whole):.2f} %" if whole else "",
            }
            for name, count in lines[:_MOST_LOSSES]
        ]
        found.append(
            {
                "id": "-".join(title.lower().split()[:2]),
                "title": title,
                "what": what,
                "of": of,
                "lines": cells,
                "more": len(lines) - len(cells),
            }
        )
    return found


def _losses_by_language(report: Report) -> Table | None:
    """Return missing entities by language and reason, if there are any and several languages."""
    missing = {lang: each["entities"]["unprojected"] for lang, each in report.languages.items()}
    reasons = sorted({reason for each in missing.values() for reason in each})
    table = Table("Missing entities by language", ["language"], reasons)
    for lang, each in missing.items():
        table.add_row(lang, *(each.get(reason, 0) for reason in reasons))
    return table if reasons and len(missing) > 1 else None


def _distributions(sample: Sample) -> list[charts.Chart]:
    """Return histograms of scores and lengths, without those that say nothing: no value, or 1 everywhere."""
    source = sample.source_scores
    if len(source) == 1 and charts.median(source) * STEP > _WHOLE:
        source = Counter()
    scores = [
        ("Scores of projected entities", "score", "entities", sample.scores),
        ("Scores of source entities", "score", "entities", source),
        ("Scores of translations", "mean token log-probability", "sentences", sample.translation_scores),
    ]
    lengths = [
        ("Length, source side", "sentences", sample.source_words),
        ("Length, target side", "sentences", sample.target_words),
        ("Length of projected entities", "entities", sample.entity_words),
    ]
    drawn = [charts.histogram(n, title=t, x_title=x, what=what, unit=STEP, tail=0) for t, x, what, n in scores]
    drawn += [charts.histogram(n, title=t, x_title="words", what=what) for t, what, n in lengths]
    return [chart for chart in drawn if chart is not None]


def _labels(report: Report, sample: Sample) -> list[dict[str, Any]]:
    """Return the labels by projected entities in the whole run, with their entities in the rows looked at, per side."""
    projected = report.projected_by_label
    names = {*projected, *report.labels["kept"], *(label for each in sample.labels.values() for label in each)}
    most = max(projected.values(), default=0)
    return [
        {
            "name": sentences.short(label, 40),
            "look": look(label),
            "projected": projected.get(label, 0),
            "bar": round(100 * _share(projected.get(label, 0), most), 1),
            "seen": [sample.labels[side][label] for side in ("source", "projected", "gold")],
        }
        for label in sorted(names, key=lambda label: (-projected.get(label, 0), label))
    ]
