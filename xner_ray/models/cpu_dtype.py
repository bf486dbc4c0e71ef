"""Number formats on a CPU: another than float32 is taken only where a layer in it is faster here.

Which one that is depends on the processor: with AVX2 alone, products in bfloat16 took five to seven times as long as
in float32, with AVX512-BF16 0.6 of it. A run computes in one format, so the driver times once, where the run begins,
and every worker obeys.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from typing import Literal, NamedTuple, cast, get_args

import numpy as np

Way = Literal["encoder", "whole", "ctranslate2", "training"]
"""What computes: `fast_linear` inside a float32 encoder, torch with the whole model in the format, CTranslate2, or
torch forward and back under autocast."""

FASTER = 0.9
"""Most of float32's time that another format may take; noise stays above it."""

_ROUNDS = 5
_HOPELESS = 3.0  # times float32's time, after which no further round is waited for
_TOKENS, _WIDTH, _INNER = 64, 384, 1536  # the inner layer of the built-in encoder, on one long sentence
_HEADS, _WORDS = 6, 64


class Times(NamedTuple):
    """Seconds of one layer, the best of some rounds; inf where processor or library lack the format."""

    own: float
    float32: float


def usable(key: str, dtype: str, way: Way, threads: int, say: Callable[[str], None]) -> str:
    """Return the format, or float32 and one line to `say` where a layer in it is not clearly faster on this CPU.

    key: of the recipe, as `align.dtype`.
    """
    own, float32 = times(dtype, way, threads)
    if own <= FASTER * float32:
        return dtype
    found = f"takes {own * 1e3:.1f} ms a layer on this CPU, float32 {float32 * 1e3:.1f}"
    say(f"{key}: {dtype} {found if own < math.inf else 'is nothing that this CPU computes in'}; float32 is taken")
    return "float32"


def for_training(
    dtype: str, *, gpus: float, threads: int, kept: str | None, say: Callable[[str], None]
) -> Literal["auto", "float32", "bfloat16"]:
    """Return what a training computes products in: `usable` of `fit.dtype` on a CPU.

    gpus: those that it asks for. kept: the format in which it began, if it has.
    """
    if dtype == "bfloat16" and not gpus:
        dtype = kept or usable("fit.dtype", dtype, "training", threads, say)
    return cast(Literal["auto", "float32", "bfloat16"], dtype)


def times(dtype: str, way: Way, threads: int) -> Times:
    """Time one layer in the format and in float32, in turn; torch's threads are as before afterwards."""
    import torch  # takes seconds, and a recipe without such a format needs none of it

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        calls = [_call(each, way, threads) for each in (dtype, "float32")]
        best = [math.inf, math.inf]
        for number in range(_ROUNDS):
            for place, call in enumerate(calls):
                started = time.perf_counter()
                call()
                best[place] = min(best[place], time.perf_counter() - started)
            if number and best[0] > _HOPELESS * best[1]:
                break
        return Times(*best)
    except (RuntimeError, ValueError):  # what torch and CTranslate2 raise for a format that they lack here
        return Times(math.inf, math.nan)
    finally:
        torch.set_num_threads(before)


def _call(dtype: str, way: Way, threads: int) -> Callable[[], object]:
    if way == "ctranslate2":
        return _of_ctranslate2(dtype, threads)
    import torch
    from torch import nn

    from xner_ray.models import fast_linear

    layer = nn.Sequential(nn.Linear(_WIDTH, _INNER), nn.GELU(), nn.Linear(_INNER, _WIDTH))
    values = torch.linspace(-1, 1, _TOKENS * _WIDTH).view(_TOKENS, _WIDTH)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != "float32"):
            made = layer(values)
        made.float().sum().backward()

    def forward() -> None:
        with torch.inference_mode():
            layer(values)

    if way == "training":
        return step
    if way == "encoder" and dtype in get_args(fast_linear.Precision):
        fast_linear.replace_linears(layer, cast(fast_linear.Precision, dtype))
        return forward
    kind = getattr(torch, dtype)
    layer, values = layer.to(kind), values.to(kind)
    return forward


def _of_ctranslate2(dtype: str, threads: int) -> Callable[[], object]:
    """Return a call of one layer of a transformer, attention included: CTranslate2 runs whole models alone."""
    import ctranslate2
    from ctranslate2.specs import transformer_spec

    def filled(linear: object, out: int, into: int) -> None:
        values = np.linspace(-0.05, 0.05, out * into, dtype=np.float32).reshape(out, into)
        vars(linear).update(weight=values, bias=np.zeros(out, np.float32))

    encoder = transformer_spec.TransformerEncoderSpec(1, _HEADS, pre_norm=True)
    layer = encoder.layer[0]
    encoder.embeddings[0].weight = np.linspace(-1, 1, _WORDS * _WIDTH, dtype=np.float32).reshape(_WORDS, _WIDTH)
    encoder.position_encodings.encodings = np.zeros((_TOKENS, _WIDTH), np.float32)
    filled(layer.self_attention.linear[0], 3 * _WIDTH, _WIDTH)
    filled(layer.self_attention.linear[1], _WIDTH, _WIDTH)
    filled(layer.ffn.linear_0, _INNER, _WIDTH)
    filled(layer.ffn.linear_1, _WIDTH, _INNER)
    for norm in (layer.self_attention.layer_norm, layer.ffn.layer_norm, encoder.layer_norm):
        norm.gamma, norm.beta = np.ones(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)
    model = transformer_spec.TransformerEncoderModelSpec(encoder)
    model.register_vocabulary([str(word) for word in range(_WORDS)])
    model.validate()
    kind = {"int8": "int8_float32"}.get(dtype, dtype)
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        loaded = ctranslate2.Encoder(folder, device="cpu", compute_type=kind, inter_threads=1, intra_threads=threads)
    return lambda: loaded.forward_batch([list(range(_TOKENS))])
