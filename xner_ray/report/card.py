"""The dataset card: README.md of a run, with the configurations that `load_dataset` reads.

It holds no time and no path of the machine, so the same run gives the same card.
"""

from __future__ import annotations

import html
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CardData, RepoCard

from xner_ray.data.languages import LANGUAGES
from xner_ray.recipe.images import TINY_CLIP, TINY_OWL
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import BUILTIN_TAGGER, TINY_NLLB
from xner_ray.run.counters import Report
from xner_ray.run.sealed import split_of
from xner_ray.storage import files as storage

_LICENCES = {
    "nllb": "NLLB-200 (translator): weights CC BY-NC 4.0, no commercial use.",
    "translator": "the translator named above: see its own card; NLLB-200 and what is made from it are CC BY-NC 4.0, "
    "no commercial use.",
    TINY_NLLB: "tiny-nllb (translator): a test model of xner_ray, Apache-2.0; its translations are no good outside "
    "its own templates.",
    "clip": "the model of pictures and texts named above: see its own card.",
    TINY_CLIP: "tiny-clip (pictures): a test model of xner_ray, Apache-2.0; it knows drawings of its own kinds alone.",
    TINY_OWL: "tiny-owl (pictures): a test model of xner_ray, Apache-2.0; it knows drawings of its own kinds alone.",
    "apertium": "Apertium (translator): a separate program; its dictionaries are GPL.",
    "builtin": "multilingual-e5-small (encoder): MIT.",
    "encoder": "the encoder named above: see its own card.",
    "uner": "the built-in tagger: CC BY-SA 4.0, trained on Universal NER (Mayhew et al., NAACL 2024).",
    "spacy": "spaCy's en_core_web_sm (tagger): MIT.",
    "hf": "Hugging Face token classifiers: see their own cards.",
    "llm": "the language models named above: see the model's own card; some bind what is made with their answers.",
}

_ORIGIN = {
    "match": "they were projected across word alignments",
    "marker": "they came through a translator in brackets",
    "constrained": "they are where a translator would put brackets in the translation",
    "transfer": "a tagger that may know another language found them",
    "combine": "they were joined from several runs",
}
_EXTRA = {
    "image": "labels weighed against pictures",
    "back_translate": "entities carried over a back-translation",
    "target_tag": "target words tagged",
    "likelihood": "likelihood of translation",
    "constrained": "probability of places",
}


_TEMPLATE = """---
{{ card_data }}
---
# Named entities projected with xner_ray

Labels were made by a machine: {{ origin }}, and nobody checked them.

```python
from datasets import load_dataset
data = load_dataset("{{ pushed.repository if pushed else "PATH OF THIS FOLDER" }}", "{{ recipe.languages[0] }}")
```

`tokens` and `ner_tags` (IOB2 ClassLabel) are what a token-classification trainer reads. The other columns
say where each label comes from: source sentence and spans, word links, a score per projected entity, and
the entities that found no place.

| code | language | sentences | rejected | source entities | projected | incomplete sentences |
|---|---|---|---|---|---|---|
{% for lang, counts in report.languages.items() -%}
| {{ [lang, names[lang].name, counts.rows.emitted, counts.rows.rejected, counts.entities.source,
      counts.entities.projected, counts.incomplete_rows] | join(" | ") }} |
{% endfor %}
Projected entities by label:

| code |{% for label in report.labels.kept %} {{ cell(label) }} |{% endfor %}
|---|{{ "---|" * report.labels.kept | length }}
{% for lang, counts in report.languages.items() -%}
| {{ lang }} |{% for label in report.labels.kept %} {{ counts.projected_by_label.get(label, 0) }} |{% endfor %}
{% endfor %}
## How it was made
{% for line in made -%}
- {{ line }}
{% endfor %}
{% if pushed -%}
- versions: {{ pushed.versions }}

`report.html` is a page to look at: download it and open it in a browser.
{% else %}
The resolved recipe, the fingerprint and the package versions are in `_run/`.
{% endif %}

## Licences
The source sentences keep their own licence. Models:
{% for licence in licences -%}
- {{ licence }}
{% else -%}
- none
{% endfor %}
{%- if report.rejects %}
## Rejected sentences

They are in `rejects/` with reason and detail.

| reason | rows |
|---|---|
{% for reason, number in report.rejects | dictsort(true) -%}
| {{ reason }} | {{ number }} |
{% endfor %}
{%- endif %}
"""


def hub_languages(codes: Iterable[str]) -> list[str]:
    """Return the ISO 639 codes by which a hub knows languages, each once."""
    return list(dict.fromkeys(LANGUAGES[code].iso639_1 or LANGUAGES[code].iso639_3 for code in codes))


class Pushed(NamedTuple):
    """What the card of a data set on a hub says that the run's own does not. licence: by the hub's name."""

    repository: str
    versions: str
    licence: str | None


def dataset_card(recipe: Recipe, report: Report, files: Sequence[str], pushed: Pushed | None = None) -> str:
    """Return README.md. files: the published files, relative to the run folder."""
    configs = []
    for lang in recipe.languages:
        kinds = {split_of(file) for file in files if file.startswith(f"data/{lang}/")}
        splits = sorted(split for split, incomplete in kinds if not incomplete)
        found = [{"split": split, "path": f"data/{lang}/{split}-*.parquet"} for split in splits]
        if found:
            configs.append({"config_name": lang, "data_files": found})
    data = CardData(
        language=hub_languages(recipe.languages),
        task_categories=["token-classification"],
        task_ids=["named-entity-recognition"],
        annotations_creators=["machine-generated"],
        size_categories=[_size(report.rows["emitted"])],
        tags=["xner_ray"],
        license=pushed.licence if pushed else None,
        configs=configs,
    )
    card = RepoCard.from_template(
        data,
        template_str=_TEMPLATE,
        recipe=recipe,
        report=report,
        pushed=pushed,
        origin=_ORIGIN[recipe.projector],
        made=made(recipe),
        licences=licences_of(recipe),
        names=LANGUAGES,
        cell=cell,
    )
    return str(card)


def _size(rows: int) -> str:
    """Return the hub's name of a size.

    >>> _size(999), _size(1000), _size(2_500_000)
    ('n<1K', '1K<n<10K', '1M<n<10M')
    """
    bounds = [1000 * 10**power for power in range(9)]
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B"]
    place = bisect_right(bounds, rows)
    return f"n<{names[0]}" if place == 0 else f"{names[place - 1]}<n<{names[place]}"


def made(recipe: Recipe) -> list[str]:
    """Return how a run was made, a line per step."""
    text = "given" if recipe.translate_engine == "provided" else f"translated by {recipe.translate_engine}"
    if recipe.translate_engine not in ("provided", "apertium"):
        text += f" ({shown(recipe.translate.model)})"
    lines = [f"direction: {recipe.direction}; entities from {_entities(recipe)}", f"text: {text}"]
    for name, what in _EXTRA.items():
        if _runs(recipe, name):
            section = getattr(recipe, name)
            lines.append(f"{what}: {section.engine if section.engine == 'apertium' else shown(str(section.model))}")
    if recipe.aligned:
        lines.append(f"alignment: {shown(recipe.align.encoder)}, hidden state {recipe.align.layer}")
    elif recipe.align.backend == "provided" and recipe.combined is None:
        lines.append("alignment: given links")
    if (plugin := recipe.evidence.plugin) is not None and recipe.combined is None:
        lines.append(f"evidence: {', '.join(recipe.evidence.names)}, by the plug-in {cell(shown(plugin))}")
    lines.append(f"matching: {_matching(recipe)}")
    doubt = f", or one with a score below {recipe.output.doubtful:g}" if recipe.output.doubtful else ""
    return [*lines, f"sentences with an unprojected entity{doubt}: {recipe.output.incomplete}"]


def _runs(recipe: Recipe, section: str) -> bool:
    """Return whether the run used a section. A combined run used none; the cards of its runs say what they used."""
    return section in recipe.stages and recipe.combined is None


def licences_of(recipe: Recipe) -> list[str]:
    """Return a line per model that the run loads."""
    return [_LICENCES[key] for key in models(recipe)]


def models(recipe: Recipe) -> list[str]:
    """Return the keys of `_LICENCES` for the models that the run loads."""
    if recipe.combined is not None:
        return recipe.combined.models
    loaded = [(recipe.engine_of(key.partition(".")[0]), model) for key, model in recipe.models()]
    used = [_translator(model) for engine, model in loaded if engine in ("nllb", "ctranslate2")]
    engines = {recipe.engine_of(stage) for stage in recipe.stages}
    engines = {"uner" if engine == "builtin" else engine for engine in engines}
    engines |= {"builtin"} if any(model == "builtin" for _, model in recipe.models()) else set()
    if engines & {"clip", "owl"}:
        used.append(recipe.image.model if recipe.image.model in (TINY_CLIP, TINY_OWL) else "clip")
    if dict(recipe.models()).get("align.encoder", "builtin") != "builtin":
        engines.add("encoder")
    others = ("builtin", "encoder", "uner", "spacy", "hf", "llm", "apertium")
    return list(dict.fromkeys([*used, *(name for name in others if name in engines)]))


def _translator(model: str) -> str:
    if model == TINY_NLLB:
        return model
    return "nllb" if "nllb" in shown(model).lower() else "translator"


def encoder_licence(encoder: str) -> str:
    """Return the licence line of the encoder of a trained model."""
    if encoder == BUILTIN_TAGGER:
        return f"{_LICENCES['uner']} This model is made from it: pass it on under the same terms."
    return _LICENCES["builtin"] if encoder == "builtin" else f"{shown(encoder)} (encoder): see its own card."


def _entities(recipe: Recipe) -> str:
    if recipe.projector == "transfer":
        return "the tagger of the target words"
    if recipe.combined is not None:
        return "the runs named below"
    given = {"none": "the input's labels", "provided": "the labels of the parallel text"}
    return given.get(recipe.tag.engine, f"the tagger {recipe.tag.engine} ({shown(str(recipe.tag.model))})")


def _matching(recipe: Recipe) -> str:
    if recipe.combined is not None:
        runs = [
            f"{weight:g} {name}" for name, weight in zip(recipe.combined.runs, recipe.combined.weights, strict=True)
        ]
        return f"none: {recipe.combined.method} of the runs {', '.join(runs)}"
    if recipe.projector == "marker":
        return (
            f"none: entities in brackets through the translator, similarity above {recipe.translate.min_similarity:g}"
        )
    if recipe.projector == "constrained":
        return f"{recipe.match.solver} solver, {recipe.match.per_entity} projection per entity, score constrained"
    if recipe.projector == "transfer":
        return "none: entities are those that the tagger of the target words finds"
    section = recipe.match
    links = "given links" if recipe.align.backend == "provided" else f"{recipe.align.method} links"
    if section.solver == "heuristic":
        return f"word-to-word heuristic on {links}"
    weights = " + ".join(f"{weight:g} {name}" for name, weight in section.scores.items())
    return (
        f"{section.candidates} candidates of at most {section.max_words} words, {section.solver} solver, "
        f"{section.per_entity} projection per entity, score {weights}"
        + (f" ({links})" if "align" in section.scores else "")
        + f" above {section.min_score:g}"
        + ("; second matching with counts of the first" if recipe.two_passes else "")
    )


def shown(model: str) -> str:
    """Return a model's name: a local folder's last part, an address without options and identity."""
    if "://" in model:
        return storage.bare(model.partition("#")[0])
    return Path(model).name if model.startswith(("/", "~", ".")) else model


def cell(text: str) -> str:
    """Return text of the input as it can stand in a Markdown table, with markup and column bars escaped."""
    return html.escape(" ".join(text.split())).replace("|", "&#124;")
