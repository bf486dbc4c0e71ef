"""The model card of a student, with the evaluation results that the hub shows.

It holds no times and no paths of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from xner_ray.data.languages import LANGUAGES
from xner_ray.evaluate.bootstrap import Interval
from xner_ray.evaluate.scores import GOLD
from xner_ray.report.card import cell, encoder_licence, hub_languages, licences_of, shown
from xner_ray.report.tables import interval_text
from xner_ray.run.folder import RunFolder
from xner_ray.train.recipe import Source, Training
from xner_ray.train.runs import label_kind, source_languages

_TEMPLATE = """---
{{ card_data }}
---

# A named-entity tagger trained with xner_ray

Labels: {{ labels }}.

```python
from transformers import pipeline
tagger = pipeline("token-classification", "PATH OF THIS FOLDER", aggregation_strategy="first")
```

## Training data

| sentences of | read | kept | left out |
|---|---|---|---|
{%- for row in sources %}
{{ row }}
{%- endfor %}
{% if masked %}
Only the entity words of {{ masked }} sentences that lost an entity were learnt.
{% endif %}{% if doubtful %}
The words of {{ doubtful }} entities with a low score were not learnt.
{% endif %}{% if unknown %}
{{ unknown }} words were not learnt, since an entity without a place, or one of a masked label, may stand there.
{% endif %}
## Training

- encoder: {{ encoder }}; the head was {{ report.head }}
{%- if context %}
- context: beside the words of a sentence it reads the text of the column {{ context }}, behind a separator; `xner-ray`
  gives it that (`tag: {engine: hf, context: COLUMN}`), the pipeline above does not
{%- endif %}
- at most {{ fit.epochs }} epochs, {{ fit.batch_sentences }} sentences a step, seed {{ fit.seed }}
- weights of checkpoint {{ report.best_checkpoint }} of {{ report.history | length }}
{%- if report.stopped_early %}; training then stopped for lack of a better F1{% endif %}

## Evaluation
{% if scores %}
Exact entities, in percent (seqeval strict, IOB2; 95 % bootstrap intervals):

| language | sentences | against | precision | recall | F1 | interval |
|---|---|---|---|---|---|---|
{%- for row in scores %}
{{ row }}
{%- endfor %}
{% if machine %}
Labels that a machine made are no gold: such a score tells how far the tagger agrees with them, not how good it is.
{% endif %}{% else %}
The tagger was not scored against gold.
{% endif %}{% if others %}
It still gives the labels {{ others }} of the encoder's own head, which were not taught here; those that `labels` leaves
out are not scored.
{% endif %}
The recipe, the losses and all figures are in `training.json`.

## Licences

The sentences keep their own licence. Models behind labels and student:
{% for licence in licences %}
- {{ licence }}
{%- endfor %}
"""


def model_card(training: Training, report: Mapping[str, Any]) -> str:
    """Return README.md. report: see `student.Trained.report`."""
    runs = [run for source in training.data for run in (source.run, *(each.run for each in source.teachers)) if run]
    recipes = [RunFolder(run).recipe() for run in dict.fromkeys(runs)]
    model, tallies = training.model, report["sentences"]["data"]
    layers = "all layers" if model.n_layers is None else f"the lowest {model.n_layers} layers"
    frozen = f", the lowest {model.n_frozen} of them frozen" if model.n_frozen else ""
    found = (report["evaluation"] or {}).get("languages", ())
    gold = [one for one in found if report["against"][one["lang"]] == GOLD]
    data = ModelCardData(
        language=hub_languages(code for source in training.data for code in source_languages(source)),
        pipeline_tag="token-classification",
        library_name="transformers",
        tags=["named-entity-recognition", "xner_ray"],
        model_name="xner_ray student" if gold else None,
        eval_results=[result for one in gold for result in _results(training, one)] or None,
    )
    card = ModelCard.from_template(
        data,
        template_str=_TEMPLATE,
        labels=", ".join(map(cell, report["labels"])),
        sources=[_row(source, tally) for source, tally in zip(training.data, tallies, strict=True)],
        masked=sum(tally["masked"] for tally in tallies),
        doubtful=sum(tally["doubtful"] for tally in tallies),
        unknown=sum(tally["unknown_words"] for tally in tallies),
        encoder=f"{shown(model.encoder)}, {layers}{frozen}",
        context=None if model.context is None else f"`{cell(model.context)}`",
        fit=training.fit,
        report=report,
        scores=[_scores(one, report["against"][one["lang"]]) for one in found],
        machine=len(gold) < len(found),
        others=", ".join(map(cell, report["other_labels"])),
        licences=dict.fromkeys(
            [encoder_licence(model.encoder), *(licence for recipe in recipes for licence in licences_of(recipe))]
        ),
    )
    return f"{card}\n"


def _row(source: Source, tally: Mapping[str, Any]) -> str:
    kind = label_kind(source, learnt=True) + (" of the source side" if source.side == "source" else "")
    left = ", ".join(f"{n} {reason}" for reason, n in tally["dropped"].items()) or "none"
    weight = f", weight {source.weight:g}" if source.weight != 1 else ""
    weight += ", weighted by score" if source.weight_by == "score" else ""
    langs = ", ".join(source_languages(source))
    return f"| {langs}, {kind}{weight} | {tally['read']} | {tally['kept']} | {cell(left)} |"


def _scores(one: Mapping[str, Any], against: str) -> str:
    overall = one["overall"]
    found = overall["f1_interval"]
    interval = interval_text(Interval(**found) if found else None)
    figures = " | ".join(f"{100 * overall[name]:.2f}" for name in ("precision", "recall", "f1"))
    return f"| {one['lang']} | {one['rows']} | {against} | {figures} | {interval} |"


def _results(training: Training, one: Mapping[str, Any]) -> Iterator[EvalResult]:
    """Yield a language's figures; the data set has the names of the files or runs with its gold."""
    places = [source for source in training.evaluate if one["lang"] in source_languages(source)]
    names = dict.fromkeys(shown(source.name.rpartition(" (")[0]) for source in places)
    for metric in ("precision", "recall", "f1"):
        yield EvalResult(
            task_type="token-classification",
            task_name="named-entity recognition",
            dataset_type=", ".join(names),
            dataset_name=f"{', '.join(names)} ({LANGUAGES[one['lang']].name})",
            dataset_config=one["lang"],
            metric_type=metric,
            metric_name=f"exact entities, {metric}",
            metric_value=round(one["overall"][metric], 4),
        )
