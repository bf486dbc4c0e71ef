"""NLLB-200 and other M2M100 models through CTranslate2, a C++ engine with 8-bit and 16-bit weights.

The model is converted once per machine, into the cache. The folder's name has CTranslate2's version, the number type
and the model's identity (its tree hash, or its commit on the hub). Only decoding differs from `NllbTranslator`; micro-
batches and rejects are the same. In float32 both engines give the same text and, to 1e-4, the same scores (4,000
sentences of tiny-nllb, beams 1 and 4). Penalties of a generation_config.json (repetition, n-grams, length) are not
applied; NLLB-200 has none.

Number types: `auto` is float32 on a CPU, so that both engines agree there, and float16 on a GPU. int8 stores matrices
in 8 bits and computes the rest in float32 on a CPU, float16 on a GPU. A CPU computes neither float16 nor bfloat16.
"""

from __future__ import annotations

import ctypes
import math
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from xner_ray import extras
from xner_ray.errors import FatalError, RecipeError
from xner_ray.models.device import budget_of, device_of, kind_of_device
from xner_ray.models.hub import complete, pin, pretrained
from xner_ray.recipe.sections import Directions, Resolved, Translating
from xner_ray.storage.cache import cached_folder
from xner_ray.translate import nllb
from xner_ray.translate.base import Result
from xner_ray.translate.languages import Languages
from xner_ray.translate.nllb import NllbTranslator, result_of

# Beam search ends when this many times `beams` translations are complete. At CTranslate2's default of 1 it ends too
# early: with 4 beams, 6 of 1,000 sentences were worse than transformers'; from 1.5 on none differed.
PATIENCE = 2.0
_KIND = "m2m_100"
_LAYOUT = 1  # count up when a converted folder's content changes for another reason than CTranslate2's version
CUBLAS, _CUBLAS_PACKAGE = "libcublas.so.12", "nvidia-cublas-cu12"  # what CTranslate2 opens, and who brings it
_COMPUTE_TYPES = {
    "cpu": {"auto": "float32", "float32": "float32", "int8": "int8_float32"},
    "cuda": {"auto": "float16", "int8": "int8_float16"} | {name: name for name in ("float32", "bfloat16", "float16")},
}


def resolve(section: Translating, key: str, directions: Directions) -> Resolved:
    """Pin the model; reads no weights.

    MissingExtraError if CTranslate2 is not installed; RecipeError, with the section's `key`, unless the model is an
    M2M100, its tokenizer has every language, and the device computes in `section.dtype`.
    """
    require(key)
    compute_type(section, key)
    found = nllb.resolve(section, key, directions)
    _refuse_other_kinds(section.model, key)
    return Resolved(found.section, found.identities | {"engine": f"ctranslate2 {metadata.version('ctranslate2')}"})


def computes_in(section: Translating) -> bool:
    """Return whether CTranslate2 computes in the section's number format on its device."""
    return section.dtype in _COMPUTE_TYPES[kind_of_device(section)]


def reads(model: str, key: str = "translate") -> bool:
    """Return whether CTranslate2 takes a model; RecipeError, with the section's `key`, if there is no such model."""
    kind = pretrained(AutoConfig, model, f"{key}.model").model_type
    return bool(kind == _KIND and nllb.tokenizer_of(model, key).is_fast)


def compute_type(section: Translating, key: str = "translate") -> str:
    """Return CTranslate2's name for `section.dtype` on the section's device.

    RecipeError, with the section's `key`, if the device has no such arithmetic.
    """
    known = _COMPUTE_TYPES[kind_of_device(section)]
    if not computes_in(section):
        raise RecipeError(
            f"{key}.dtype: CTranslate2 does not compute in {section.dtype} on a CPU; allowed: {', '.join(known)}"
        )
    return known[section.dtype]


def converted_folder(model: str, quantization: str, cache: Path | None = None, key: str = "translate") -> Path:
    """Return the model in CTranslate2's format, converted into the cache (see `cached_folder`) if it is not there.

    model: its name in the recipe. quantization: one of CTranslate2's types. Weights are read from safetensors, and no
    code comes with them. MissingExtraError if CTranslate2 is not installed; RecipeError, with the section's `key`, if
    the model cannot be used.
    """
    require(key)
    import ctranslate2

    model, identity = pin(model)
    name = f"ctranslate2-{ctranslate2.__version__}-{quantization}-{identity[:32]}-{_LAYOUT}"
    return cached_folder(name, lambda own: _convert(model, quantization, own, key), cache)


class Ct2Translator(NllbTranslator):
    """`NllbTranslator` with another decoder; `model` is a `ctranslate2.Translator`."""

    again = False  # CTranslate2 goes on with the rows that have not ended

    def __init__(self, section: Translating) -> None:
        """Load the model, converted first if this machine has not done so.

        MissingExtraError if CTranslate2 is not installed; RecipeError if the model or its number type cannot be used.
        """
        require("translate")
        import ctranslate2

        self.name = section.model
        self.beams = section.beams
        self.max_new_tokens = section.max_new_tokens
        self.micro_batch_tokens = self.budget = budget_of(section)
        self.tokens = 0
        place = device_of(section, ctranslate2.get_cuda_device_count())
        if place == "cuda":
            load_cublas()
        kind = compute_type(section)
        self.positions: int = _refuse_other_kinds(section.model, "translate").max_position_embeddings
        self.tokenizer = nllb.tokenizer_of(section.model)
        self.languages = Languages(self.tokenizer, self.name)
        folder = converted_folder(section.model, kind)
        try:
            self.model: Any = ctranslate2.Translator(
                str(folder),
                device=place,
                compute_type=kind,
                inter_threads=1,
                intra_threads=section.threads,
            )
        except ValueError as error:  # this GPU has no bfloat16, or this build of CTranslate2 no GPU
            raise RecipeError(f"translate.dtype {section.dtype}: {error}") from error
        except RuntimeError as error:
            raise _known(error) from error

    def _generate(self, ids: list[list[int]], first: tuple[int, ...], limit: int) -> list[Result]:
        forced = self.tokenizer.convert_ids_to_tokens(list(first))
        pieces = [self.tokenizer.convert_ids_to_tokens(row) for row in ids]
        try:
            with self.in_model():
                decoded = self.model.translate_batch(
                    pieces,
                    [forced] * len(ids),
                    beam_size=self.beams,
                    patience=PATIENCE,
                    return_scores=True,
                    return_end_token=True,
                    max_input_length=0,  # never cut: `translate` has rejected longer sources
                    max_decoding_length=limit,
                    min_decoding_length=0,
                )
        except RuntimeError as error:
            raise _known(error) from error
        tokens = [result.hypotheses[0] for result in decoded]  # language token, subwords, end
        self.tokens += sum(map(len, ids)) + sum(map(len, tokens))
        texts = self.tokenizer.batch_decode(
            [self.tokenizer.convert_tokens_to_ids(row) for row in tokens], skip_special_tokens=True
        )
        results: list[Result] = []
        for text, row, result in zip(texts, tokens, decoded, strict=True):
            # CTranslate2's mean counts the language token, with a loss of 0.
            score = result.scores[0] * len(row) / (len(row) - 1) if len(row) > 1 else 0.0
            if not math.isfinite(score):
                raise ValueError(nllb.not_finite(self.model.compute_type))
            results.append(result_of(text, score, None if row[-1] == self.tokenizer.eos_token else limit))
        return results


def load_cublas() -> None:
    """Load the library of matrix products that CTranslate2 opens by its name on a GPU; torch for CUDA 13 has none.

    That of the package is taken, which no path of the system leads to, else the system's. FatalError if there is none.
    """
    try:
        files = metadata.distribution(_CUBLAS_PACKAGE).files or []
    except metadata.PackageNotFoundError:
        files = []
    places = [str(file.locate()) for file in files if file.name == CUBLAS]
    for place in (*places, CUBLAS):
        try:
            ctypes.CDLL(place, mode=ctypes.RTLD_GLOBAL)
            return
        except OSError as error:
            fault = error
    raise FatalError(
        f"translate.engine ctranslate2 on a GPU needs {CUBLAS}, also beside a torch for CUDA 13 ({fault}): "
        f"{extras.install('ctranslate2-cuda')} on every node with a GPU, or set gpus: 0"
    )


def require(key: str) -> None:
    """Raise MissingExtraError, with the section's `key`, if CTranslate2 is not installed."""
    extras.require("ctranslate2", "ctranslate2", f"{key}.engine ctranslate2")


def _refuse_other_kinds(model: str, key: str) -> Any:
    """Return the model's configuration. RecipeError unless it is an M2M100: only that architecture is converted."""
    config = pretrained(AutoConfig, model, f"{key}.model")
    if config.model_type != _KIND:
        raise RecipeError(
            f"{key}.model {model!r} is of type {config.model_type}, but engine ctranslate2 takes m2m_100 alone, "
            "as NLLB-200 is; choose engine nllb"
        )
    if not nllb.tokenizer_of(model, key).is_fast:
        raise RecipeError(
            f"{key}.model {model!r}: its tokenizer does not list the tokens of its languages, as that of M2M-100, so "
            "ctranslate2 cannot convert it; choose engine nllb"
        )
    return config


def _convert(model: str, quantization: str, folder: Path, key: str) -> None:
    """Convert a model; CTranslate2's `TransformersConverter` ignores the tokenizer's revision and reads pickles."""
    from ctranslate2.converters.transformers import M2M100Loader

    _refuse_other_kinds(model, key)
    tokenizer = nllb.tokenizer_of(model, key)
    weights = complete(AutoModelForSeq2SeqLM, model, f"{key}.model", "auto")
    # CTranslate2 knows tokens by their spellings, in the order of their numbers.
    if sorted(tokenizer.get_vocab().values()) != list(range(len(tokenizer))):
        raise RecipeError(f"{key}.model {model!r}: its tokenizer's numbers have gaps; choose engine nllb")
    with torch.no_grad():
        specification = M2M100Loader()(weights, tokenizer)
    specification.validate()
    specification.optimize(quantization=quantization)
    specification.save(str(folder))


def _known(error: RuntimeError) -> Exception:
    """Return the error as what it is: out of memory for the guard, FatalError for a missing library, else itself."""
    message = str(error)
    if "out of memory" in message or "ALLOC_FAILED" in message:
        return torch.OutOfMemoryError(message)
    if "cannot be loaded" in message:
        return FatalError(
            f"CTranslate2: {message}. It needs CUDA 12's libraries, also beside a torch for CUDA 13: "
            f"{extras.install('ctranslate2-cuda')} on every node with a GPU"
        )
    return error
