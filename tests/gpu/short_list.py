"""The checks of `make gpu-short`: one process, no Ray, no hub. `make gpu` makes them again with published weights.

What production.md expects is of published weights on an A100 or H100 host; random ones take the same time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import Check, Expected, Figure, NotHereError
from made_rows import unit_tables
from rig import SOURCE, TARGET, Rig

from xner_ray.align.aligner import BatchAligner
from xner_ray.align.linking import AlignOptions
from xner_ray.data.links import METHODS
from xner_ray.data.row import accepted_rows, rejected
from xner_ray.engine.guard import run_stage
from xner_ray.models import faults
from xner_ray.recipe.load import load_recipe
from xner_ray.sizing import rates
from xner_ray.sizing.roofline import DEVICES
from xner_ray.translate import nllb
from xner_ray.translate.base import Result, Translation
from xner_ray.translate.stage import TranslateStage

HOUR = "production.md, the first GPU hour"
_SLACK_BYTES = 1 << 20  # of memory that a failed call may leave


def throughput(rig: Rig) -> Iterator[Figure]:
    started = time.perf_counter()
    translator = rig.translator()
    yield Figure("seconds to make and load the model", time.perf_counter() - started)
    texts, few = rig.english, rig.english[: rig.sizes.few]
    rig.plain(translator, few[:32], 32)  # the first call chooses kernels
    translator.translate(few[:32], SOURCE, TARGET)
    before = translator.model_seconds
    seconds, share = timed(rig, partial(translator.translate, texts, SOURCE, TARGET))
    rate = len(texts) / seconds
    yield Figure("engine nllb, rows/s", rate, Expected(80, "estimated", HOUR, said="80 to 200"), f"{len(texts)} rows")
    if known := _simulated(rig, "translate", texts):
        yield Figure("engine nllb, rows/s, beside plan's", rate, known)
    yield Figure("engine nllb, busy share", share, _busy())
    yield Figure("engine nllb, share of time in the model", (translator.model_seconds - before) / seconds)
    best = 0.0
    for rows in rig.sizes.plain:
        own = texts if rows == max(rig.sizes.plain) else few
        seconds, share = timed(rig, partial(rig.plain, translator, own, rows))
        best = max(best, len(own) / seconds)
        yield Figure(
            f"plain generate, batches of {rows}, rows/s", len(own) / seconds,
            Expected(40, "estimated", HOUR, said="40 to 100"), f"{len(own)} sentences",
        )  # fmt: skip
        yield Figure(f"plain generate, batches of {rows}, busy share", share)
    yield Figure(
        "engine nllb, times plain generate", rate / best, Expected(3, "required", "issue 17, item 8"),
        "against the faster of the plain batches",
    )  # fmt: skip


def equal_output(rig: Rig) -> Iterator[Figure]:
    """In float32: in 16 bits another width of a batch rounds otherwise, and a near tie falls the other way."""
    translator = rig.translator("float32")
    texts = rig.english[: rig.sizes.few]
    plain = rig.plain(translator, texts, max(rig.sizes.plain))
    ours = texts_of(translator.translate(texts, SOURCE, TARGET))
    same = sum(a.strip() == b for a, b in zip(plain, ours, strict=True)) / len(texts)
    yield Figure("share of rows with the same text, float32", same, Expected(0.95, "required", "issue 17, item 8"))


def scoring(rig: Rig) -> Iterator[Figure]:
    translator = rig.translator()
    texts = rig.english[: rig.sizes.few]
    translator.translate(texts[:32], SOURCE, TARGET)
    spent, scored = 0.0, nllb.log_probabilities

    def timed(*arguments: Any) -> torch.Tensor:
        nonlocal spent
        rig.machine.wait()
        started = time.perf_counter()
        found = scored(*arguments)
        rig.machine.wait()
        spent += time.perf_counter() - started
        return found

    nllb.log_probabilities = timed
    try:
        before = translator.model_seconds
        translator.translate(texts, SOURCE, TARGET)
    finally:
        nllb.log_probabilities = scored
    decoding = translator.model_seconds - before - spent
    expected = Expected(0.1, "required", "issue 17, item 8", at_most=True)
    yield Figure("scoring's share of the decoding time", spent / decoding, expected)


def memory(rig: Rig) -> Iterator[Figure]:
    """Leave less and less of the device's memory to a unit of rows, at last half of what it takes."""
    recipe = load_recipe({"input": {"path": "a.conll"}, "targets": [TARGET]})
    translator = rig.translator()
    budget = translator.micro_batch_tokens
    (table,) = unit_tables(rig.english[: rig.sizes.memory_rows], None, rig.sizes.memory_rows, (SOURCE, TARGET))
    before = rig.machine.allocated()
    rig.machine.begin_peak()
    run_stage(TranslateStage(recipe, translator), table)
    taken = rig.machine.peak() - before
    yield Figure("memory of a unit beside the model, GB", taken / 1e9, note=f"{table.num_rows} rows, greedy")
    for leave in (*(gb * 1e9 for gb in rig.sizes.leave_gb), taken / 2):
        name = f"{leave / 1e9:.3g} GB left" if leave != taken / 2 else "half of that left"
        if leave > rig.machine.free_bytes():
            yield Figure(f"{name}: rows accounted for", None, note="the device has less")
            continue
        translator.micro_batch_tokens = budget
        with rig.machine.leaving(int(leave)), _left_alive(rig) as alive:
            stage = TranslateStage(recipe, translator)
            result, _ = run_stage(stage, table)
        accepted, flags = accepted_rows(result), result.column("flags").to_pylist()
        accounted = len(accepted) + int(rejected(result).sum())
        flagged = sum("memory_halved" in (flags[row] or ()) for row in accepted) / max(1, len(accepted))
        yield Figure(f"{name}: rows accounted for", accounted, Expected(table.num_rows, "required", "no row is lost"))
        translated = Expected(0.9, "required", "rejected rows too are accounted for")
        yield Figure(f"{name}: share of rows translated", len(accepted) / table.num_rows, translated)
        must = Expected(1, "required", f"a unit takes {taken / 1e9:.3g} GB") if leave < 0.9 * taken else None
        yield Figure(f"{name}: share of them flagged memory_halved", flagged, must)
        yield Figure(f"{name}: tokens of a micro-batch in the end", translator.micro_batch_tokens)
        if alive:
            none = Expected(_SLACK_BYTES / 1e6, "required", HOUR, at_most=True, said="no tensor of a failed call")
            yield Figure(f"{name}: MB of failed calls alive at the next", max(alive) / 1e6, none)


@contextmanager
def _left_alive(rig: Rig) -> Iterator[list[int]]:
    """Collect what is allocated on the device, over what is now, whenever memory is freed for another try."""
    found: list[int] = []
    before, free = rig.machine.allocated(), faults.free

    def watched() -> None:
        free()
        found.append(rig.machine.allocated() - before)

    faults.free = watched
    try:
        yield found
    finally:
        faults.free = free


def number_formats(rig: Rig) -> Iterator[Figure]:
    """float16, which `auto` is on a GPU, against bfloat16: over whole sentences, and token by token beside float32."""
    texts = rig.english[: rig.sizes.few]
    found: dict[str, list[str]] = {}
    tokens: dict[str, torch.Tensor] = {}
    given: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []
    for dtype in ("float32", "float16", "bfloat16"):
        translator = rig.translator(dtype)
        found[dtype] = texts_of(translator.translate(texts, SOURCE, TARGET))
        if not given:
            given = _teacher(translator, texts[: rig.sizes.few // 4])
        tokens[dtype] = _next_tokens(translator.model, given)
        del translator
        rig.machine.clear()
    for dtype in ("float16", "bfloat16"):
        changed = sum(a != b for a, b in zip(found["float32"], found[dtype], strict=True)) / len(texts)
        yield Figure(f"{dtype}: share of sentences that differ from float32", changed)
    apart = sum(a != b for a, b in zip(found["float16"], found["bfloat16"], strict=True)) / len(texts)
    expected = None if rig.is_random else Expected(0.05, "estimated", HOUR, at_most=True)
    note = "random weights have near ties everywhere, published ones few" if rig.is_random else ""
    yield Figure("share of sentences that differ, bfloat16 and float16", apart, expected, note)
    yield from _nearer("tokens", *(float((tokens["float32"] != tokens[d]).float().mean()) for d in _HALVES))


_HALVES = ("float16", "bfloat16")


def links(rig: Rig) -> Iterator[Figure]:
    texts = [[text.split(" ") for text in side] for side in (rig.english, rig.spanish)]
    cells: dict[str, set[tuple[int, int, int]]] = {}
    for dtype in ("float32", *_HALVES):
        aligner = BatchAligner(rig.encoder(dtype), AlignOptions(center="pair"))
        if dtype == "float16":
            aligner.align(texts[0][:64], texts[1][:64])  # the first call chooses kernels
            seconds, share = timed(rig, partial(aligner.align, *texts))
            rate = len(texts[0]) / seconds
            yield Figure(
                "pairs/s, float16", rate, Expected(400, "estimated", HOUR, said="400 to 900 at mBERT's shape"),
                "base's shape, its states of the layer in use",
            )  # fmt: skip
            yield Figure("busy share", share)
        few = [side[: rig.sizes.few] for side in texts]
        cells[dtype] = _linked(aligner, few)
        del aligner
        rig.machine.clear()
    yield from _nearer("links", *(_differ(cells["float32"], cells[dtype]) for dtype in _HALVES))


def _linked(aligner: BatchAligner, sides: Sequence[list[list[str]]]) -> set[tuple[int, int, int]]:
    found, _ = aligner.align(*sides)
    hard = np.flatnonzero(found.methods & (1 << METHODS.index("itermax")))
    return set(zip(*(each[hard].tolist() for each in (found.row, found.source, found.target)), strict=True))


def _differ(a: set[tuple[int, int, int]], b: set[tuple[int, int, int]]) -> float:
    return len(a ^ b) / max(1, len(a | b))


def _nearer(what: str, half: float, brain: float) -> Iterator[Figure]:
    """float16 has three more bits of a number than bfloat16, so it must be nearer to float32."""
    yield Figure(f"float16: share of {what} that differ from float32", half)
    yield Figure(f"bfloat16: share of {what} that differ from float32", brain)
    yield Figure(
        f"{what} that differ in float16, for each in bfloat16", half / brain if brain else 0.0,
        Expected(0.5, "required", "float16 has three bits more", at_most=True),
    )  # fmt: skip


def _teacher(translator: Any, texts: Sequence[str]) -> list[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """Return inputs and the tokens that the model gave for them, batch by batch."""
    tokenizer, found = translator.tokenizer, []
    tokenizer.src_lang = SOURCE
    first = tokenizer.convert_tokens_to_ids(TARGET)
    for start in range(0, len(texts), 16):
        inputs = tokenizer(list(texts[start : start + 16]), padding=True, return_tensors="pt")
        inputs = dict(inputs.to(translator.model.device))
        with torch.inference_mode():
            sequences = translator.model.generate(
                **inputs, forced_bos_token_id=first, max_new_tokens=256, do_sample=False
            )
        found.append((inputs, sequences))
    return found


def _next_tokens(model: Any, given: Sequence[tuple[dict[str, torch.Tensor], torch.Tensor]]) -> torch.Tensor:
    """Return the likeliest token at each place, where the tokens before it are given; without padding."""
    found = []
    for inputs, sequences in given:
        with torch.inference_mode():
            logits = model(**inputs, decoder_input_ids=sequences[:, :-1], use_cache=False).logits
        real = sequences[:, 1:] != model.config.pad_token_id
        found.append(logits.argmax(-1)[real].cpu())
    return torch.cat(found)


def texts_of(results: Sequence[Result]) -> list[str]:
    return [each.text if isinstance(each, Translation) else "" for each in results]


def timed(rig: Rig, function: Any) -> tuple[float, float | None]:
    """Return the seconds of a call, and the share of them in which the device was busy."""
    rig.machine.wait()
    with rig.machine.busy() as busy:
        started = time.perf_counter()
        function()
        rig.machine.wait()
        seconds = time.perf_counter() - started
    return seconds, busy.share


def _busy() -> Expected:
    return Expected(0.1, "estimated", HOUR, said="0.1 to 0.35 in a whole run")


def _simulated(rig: Rig, stage: str, texts: Sequence[str]) -> Expected | None:
    """Return what `plan` assumes of this GPU, whose words are counted; None for a GPU without figures."""
    if rig.machine.known is None:
        return None
    recipe = load_recipe({"input": {"path": "a.conll"}, "targets": [TARGET], "translate": {"gpus": 1}})
    mean = sum(len(text.split(" ")) for text in texts) / len(texts)
    rate = rates.rate_of(recipe, stage, mean, DEVICES[rig.machine.known])
    return Expected(rate.rows_per_s, "simulated", rate.said) if isinstance(rate, rates.Rate) else None


def device(rig: Rig) -> Iterator[Figure]:
    """A product of two matrices of 4,096, again and again: the device works, and at what speed."""
    if rig.machine.kind != "cuda":
        raise NotHereError("no GPU")
    yield Figure("free memory, GB", rig.machine.free_bytes() / 1e9, Expected(20, "required", HOUR))
    square = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
    for _ in range(10):
        product = square @ square
    seconds, _ = timed(rig, lambda: [torch.mm(square, square, out=product) for _ in range(100)])
    rate = 100 * 2 * 4096**3 / seconds / 1e12
    known = rig.machine.known
    published = Expected(DEVICES[known].flops / 1e12, "simulated", f"{known}'s published figure") if known else None
    yield Figure("16-bit operations, TFLOP/s", rate, published)


CHECKS = (
    Check("the device", device, 20),
    Check("throughput", throughput, 150),
    Check("equal output", equal_output, 60),
    Check("scoring", scoring, 25),
    Check("memory", memory, 95),
    Check("number formats", number_formats, 70),
    Check("links", links, 40),
)
