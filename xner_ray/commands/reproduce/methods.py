"""The methods of the paper and our default as settings of a recipe, and the sets as recipes.

Politov et al. combine an aligner with a matcher. Aligners, on the same layer of multilingual BERT: `s` is SimAlign
(subwords, cosine, itermax), `a` is AWESoME (subwords, dot product, softmax above 0.001, not fine-tuned).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from xner_ray.commands.reproduce import published
from xner_ray.errors import RecipeError, did_you_mean
from xner_ray.storage.files import join

Models = Literal["paper", "builtin"]
Settings = dict[str, Any]
TRANSLATOR = "facebook/nllb-200-3.3B"
TAGGER = "FacebookAI/xlm-roberta-large-finetuned-conll03-english"
ENCODER, LAYER = "google-bert/bert-base-multilingual-cased", 8
MARKER = "ychenNLP/nllb-200-3.3B-easyproject"
TITLES = {"europarl": "Europarl-NER", "masakhaner": "MasakhaNER 2.0", "wikiann": "WikiANN (XTREME PAN-X)"}
LABELS = ["PER", "LOC", "ORG"]
OURS, TRANSFER = "ours", "MT"
_SUBWORDS = {"align.level": "subword", "align.center": "none", "align.temperature": None, "align.distortion": 0.0}
_ALIGNERS: dict[str, Settings] = {
    "s": {**_SUBWORDS, "align.similarity": "cosine", "align.method": "itermax"},
    "a": {**_SUBWORDS, "align.similarity": "dot", "align.method": "softmax", "align.threshold": 0.001},
}
_COUNTS: Settings = {"match.scores": {"align": 1}, "match.prior": "none", "match.min_score": 0}
_COUNTS |= {"match.max_words": 60, "match.per_entity": "<=1", "match.confidence": "none"}
_MATCHERS: dict[str, Settings] = {
    "H": {"match.solver": "heuristic", "match.prior": "none", "match.confidence": "none"},
    "N": {**_COUNTS, "match.solver": "greedy", "match.candidates": "ngram"},
    "X": {**_COUNTS, "match.solver": "exact", "match.candidates": "ngram"},
    "E": {**_COUNTS, "match.solver": "greedy", "match.candidates": "tagger"},
}
LEGEND = {
    TRANSFER: "MT: model transfer, the tagger on the words themselves",
    "H": "H: heuristic, runs of aligned words (gap 1, ratio 0.8)",
    "N": "N: n-grams and greedy matching by link counts",
    "X": "X: the same, solved exactly",
    "E": "E: a tagger's entities as candidates, greedy",
    "b": "b: by back-translation",
    "s": "-s: links as SimAlign's",
    "a": "-a: links as AWESoME's",
    OURS: "ours: the defaults of this program on the same encoder",
}


def methods(name: str, wanted: Sequence[str] = (), models: Models = "paper") -> list[str]:
    """Return the methods of a set, or those of it that are wanted. `H` is short for all that begin with `H-`.

    Without a wish, those that the models can do: nothing that is built in translates back.
    """
    paper = published.methods(name)
    known = [*paper, "X-s", "X-a", OURS]
    if not wanted:
        return [method for method in known if models == "paper" or "b" not in parts(method)]
    chosen: set[str] = set()
    for one in wanted:
        found = [method for method in known if method == one or method.partition("-")[0] == one]
        chosen.update(found)
    return [method for method in known if method in chosen]


def check_methods(wanted: Sequence[str], sets: Sequence[str]) -> None:
    """Raise RecipeError for a method that none of the sets has."""
    known = {method for name in sets for method in methods(name)}
    known |= {method.partition("-")[0] for method in known}
    for one in wanted:
        if one not in known:
            raise RecipeError(f"--methods: {one!r} is no method here{did_you_mean(one, known)}")


def parts(method: str) -> list[str]:
    """Return the keys of `LEGEND` that a method's name is made of.

    >>> parts("Hb-s"), parts("MT")
    (['H', 'b', 's'], ['MT'])
    """
    if method in (TRANSFER, OURS):
        return [method]
    matcher, _, aligner = method.partition("-")
    return [*matcher, aligner]


def settings(method: str, name: str, models: Models) -> Settings:
    """Return what of the recipe of a set is a method's own."""
    if method == OURS:
        return {}
    if method == TRANSFER:
        labels = {"MISC": None} if models == "paper" and name != "europarl" else {}
        return {"projector": "transfer", "target_tag.labels": labels}
    matcher, *back, aligner = parts(method)
    return {**_ALIGNERS[aligner], **_MATCHERS[matcher], **(_back_translation(models) if back else {})}


def forced(method: str, name: str) -> Settings:
    """Return settings of a method that stand even against those of the user: model transfer reads the input alone."""
    if method != TRANSFER or name == "europarl":
        return {}
    return {"tag": {"engine": "none"}, "input.parallel": {}, "input.parallel_format": None}


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise RecipeError for a setting of the user that would make another method of one."""
    for override in overrides:
        key = override.partition("=")[0].strip()
        section, _, rest = key.partition(".")
        if section in ("match", "projector", "direction", "targets", "source_lang") or key in _ALIGNERS["a"]:
            raise RecipeError(f"--set {key}: is what the methods differ in; `xner-ray sweep` compares methods of yours")
        if section in ("align", "input") and not rest:
            raise RecipeError(f"--set {key}: a whole section would replace the methods'; write {key}.<key>=VALUE")
        if section == "input" and rest.split(".")[0] in ("path", "lang", "format", "parallel", "links", "labels"):
            raise RecipeError(
                f"--set {key}: comes from the folders; use --masakhaner, --wikiann, --europarl, --english"
            )


def _back_translation(models: Models) -> Settings:
    if models != "paper":
        raise RecipeError(
            "--methods: back-translation needs a translator that keeps brackets, and none is built in; leave Hb, Nb "
            "and Eb out, or take --models paper with --set back_translate.engine=... and a model of yours"
        )
    return {"back_translate": {"engine": "nllb", "model": MARKER, "gpus": 1}}


def base(name: str, models: Models) -> Settings:
    """Return the sections of models in the recipe of a set. Europarl-NER has people's labels and translations."""
    if models == "builtin":
        sections: Settings = {"target_tag": {"engine": "builtin"}, "align": {"encoder": "builtin"}}
        return sections if name == "europarl" else {"tag": {"engine": "builtin"}, **sections}
    on_gpu = {"gpus": 1, "micro_batch_tokens": 16_384}
    tagger = {"engine": "hf", "model": TAGGER, **on_gpu}
    sections = {"target_tag": tagger, "align": {"encoder": ENCODER, "layer": LAYER, **on_gpu}}
    if name == "europarl":
        return sections
    translate = {"engine": "nllb", "model": TRANSLATOR, **on_gpu}
    return {"translate": translate, "tag": {**tagger, "labels": {"MISC": None}}, **sections}


def recipe(name: str, models: Models, data: str, langs: Sequence[str], format: str, english: str = "") -> Settings:
    """Return the recipe of a set, whose files are `data`/CODE.conll or .parquet by our codes.

    english: the ending of the files with given English sentences, `data`/CODE.eng_Latn and this; empty: none are given.
    """
    ending = "parquet" if format == "parquet" else "conll"
    if name == "europarl":
        parallel = {lang: join(data, f"{lang}.{ending}") for lang in langs}
        given: Mapping[str, Any] = {"path": join(data, f"eng_Latn.{ending}"), "lang": "eng_Latn", "format": format}
        return {
            "input": {**given, "parallel": parallel, "parallel_format": format},
            "targets": list(langs),
            **base(name, models),
        }
    given = {
        "path": join(data, f"{{lang}}.{ending}"),
        "lang": list(langs),
        "format": format,
        "labels": {"keep": LABELS},
    }
    if english:
        text = {"parallel_format": "text"} if english == ".txt" else {}  # the content tells the format of others
        given = {**given, "parallel": {"eng_Latn": join(data, f"{{lang}}.eng_Latn{english}")}, **text}
    sections = base(name, models)
    if english:
        sections.pop("translate", None)
    return {"direction": "test", "input": dict(given), **sections}
