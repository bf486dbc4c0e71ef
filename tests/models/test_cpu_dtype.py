"""Number formats on a CPU, chosen by times that a test gives, and timed for real without a look at which is faster."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from xner_ray.models import cpu_dtype, fast_linear
from xner_ray.models.cpu_dtype import Times, Way, for_training, times, usable


@pytest.mark.parametrize(
    ("found", "taken", "line"),
    [
        (Times(0.0008, 0.001), "int8", None),
        (Times(0.00095, 0.001), "float32", "takes 0.9 ms a layer on this CPU, float32 1.0"),
        (Times(0.606, 0.026), "float32", "takes 606.0 ms a layer on this CPU, float32 26.0"),
        (Times(math.inf, math.nan), "float32", "is nothing that this CPU computes in"),
    ],
)
def test_a_format_is_taken_where_it_is_clearly_faster(
    found: Times, taken: str, line: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_dtype, "times", lambda dtype, way, threads: found)
    said: list[str] = []
    assert usable("align.dtype", "int8", "encoder", 1, said.append) == taken
    assert said == ([] if line is None else [f"align.dtype: int8 {line}; float32 is taken"])


def test_only_bfloat16_on_a_cpu_is_timed_before_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Way, int]] = []

    def slow(dtype: str, way: Way, threads: int) -> Times:
        asked.append((dtype, way, threads))
        return Times(2.0, 1.0)

    monkeypatch.setattr(cpu_dtype, "times", slow)
    said: list[str] = []

    def chosen(dtype: str, gpus: float = 0, kept: str | None = None) -> str:
        return for_training(dtype, gpus=gpus, threads=3, kept=kept, say=said.append)

    assert [chosen("auto"), chosen("float32"), chosen("bfloat16", gpus=1)] == ["auto", "float32", "bfloat16"]
    assert [chosen("bfloat16", kept="bfloat16"), chosen("bfloat16", kept="float32")] == ["bfloat16", "float32"]
    assert not asked and not said
    assert chosen("bfloat16") == "float32"
    assert asked == [("bfloat16", "training", 3)]
    assert said == ["fit.dtype: bfloat16 takes 2000.0 ms a layer on this CPU, float32 1000.0; float32 is taken"]


@pytest.mark.parametrize(
    ("dtype", "way"),
    [
        ("bfloat16", "encoder"),
        ("int8", "encoder"),
        ("float16", "encoder"),
        ("bfloat16", "whole"),
        ("bfloat16", "training"),
        ("int8", "ctranslate2"),
    ],
)
def test_a_layer_is_timed_in_every_way_and_threads_stay(dtype: str, way: Way) -> None:
    before, started = torch.get_num_threads(), time.process_time()
    found = times(dtype, way, 1)
    assert 0 < found.own < 10 and 0 < found.float32 < 10
    assert found.own + found.float32 < time.process_time() - started + 1  # they are seconds
    assert torch.get_num_threads() == before


def test_what_a_library_refuses_takes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(dtype: str, way: Way, threads: int) -> Callable[[], object]:
        raise ValueError("Requested bfloat16 compute type, but the target device does not support it")

    monkeypatch.setattr(cpu_dtype, "_call", refuses)
    before = torch.get_num_threads()
    assert times("bfloat16", "ctranslate2", before + 1).own == math.inf
    assert torch.get_num_threads() == before


def test_a_hopeless_format_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def call(dtype: str, way: Way, threads: int) -> Callable[[], object]:
        def layer() -> None:
            calls.append(dtype)
            if dtype == "int8":
                time.sleep(0.2)

        return layer

    monkeypatch.setattr(cpu_dtype, "_call", call)
    assert times("int8", "encoder", 1).own >= 0.2
    assert calls == ["int8", "float32"] * 2


def test_a_processor_without_packed_bfloat16_computes_in_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(48, 32)).eval()
    values = torch.randn(5, 48)
    expected = nn.functional.linear(
        values.bfloat16(), plain[0].weight.detach().bfloat16(), plain[0].bias.detach().bfloat16()
    )
    monkeypatch.setattr(fast_linear, "_can_pack", lambda precision: False)
    with torch.inference_mode():
        exact = plain(values)
        assert fast_linear.replace_linears(plain, "float32") is None
        undo = fast_linear.replace_linears(plain, "bfloat16")
        assert undo is not None
        found = plain(values)
        undo()
        assert torch.equal(plain(values), exact)
    assert found.dtype == torch.float32 and torch.equal(found, expected.float())
    assert not torch.equal(found, exact)
