"""States of frozen layers: the same bits in any company and from any place; and the top layer at words."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from students import sentences, student, toy

from xner_ray.models.windows import Windows
from xner_ray.train import states as states_module
from xner_ray.train.network import Student
from xner_ray.train.recipe import Model
from xner_ray.train.states import FrozenStateCache
from xner_ray.train.windows import encode

BUDGET = 1024


def _many() -> pa.Table:
    """Sentences of all lengths, some of them twice, one longer than the network reads."""
    words = ["ann", "b", "saw", "bonn", "in", "amy"]
    rows = [{"tokens": [words[(n + at) % 6] for at in range(1 + n % 9)], "spans": []} for n in range(40)]
    return sentences([*rows, {"tokens": words * 12, "spans": []}])


def _pair(folder: Path, **options: Any) -> tuple[Student, Windows]:
    found = student(folder, frozen=2, **options)
    return found, encode(_many(), found.tokenizer, found.positions)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("half", [False, True])
def test_a_state_has_the_same_bits_in_any_company(tmp_path: Path, kind: str, half: bool) -> None:
    found, windows = _pair(tmp_path, kind=kind)
    rows = list(range(len(windows.lengths)))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        alone = [found.states(windows, [row])[0] for row in rows]
        for order in (rows, rows[::-1], np.random.default_rng(0).permutation(rows).tolist(), [3, 30, 3]):
            for budget in (BUDGET, 64, 16):
                for row, state in zip(order, found.states(windows, order, budget), strict=True):
                    assert torch.equal(state, alone[row]) and len(state) == windows.lengths[row]
    assert found._readers[half].together


def test_states_are_those_of_the_frozen_layers(tmp_path: Path) -> None:
    """With packed weights or without, together or row by row, to within rounding."""
    found, windows = _pair(tmp_path)
    rows = list(range(len(windows.lengths)))
    made = found.states(windows, rows)
    assert found._readers[False].layers is not found.low, "this machine packs no weights"
    found._readers[False] = found._readers[False]._replace(layers=found.low, together=False)
    plain = found.states(windows, rows)
    for row in rows:
        ids = torch.from_numpy(windows.ids[windows.starts[row] : windows.starts[row + 1]].astype(np.int64))
        with torch.inference_mode():
            whole = found.module.bert(input_ids=ids[None], output_hidden_states=True).hidden_states[2][0]
        torch.testing.assert_close(made[row], whole, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(plain[row], whole, rtol=1e-4, atol=1e-5)


def test_a_processor_that_mixes_rows_reads_them_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, windows = _pair(tmp_path)
    monkeypatch.setattr(Student, "_is_apart", lambda self, layers: False)
    read: list[int] = []
    low = Student._low_states

    def counted(self: Student, layers: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        read.append(len(ids))
        return low(self, layers, ids, mask)

    found._reader()
    monkeypatch.setattr(Student, "_low_states", counted)
    found.states(windows, list(range(20)))
    assert read == [1] * 20


def test_rows_that_change_each_other_are_noticed(tmp_path: Path) -> None:
    found, _ = _pair(tmp_path)
    assert found._is_apart(found.low)

    class Mixes(torch.nn.Module):
        def forward(self, states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            return states + 1e-6 * states.mean(dim=0, keepdim=True)

    assert not found._is_apart([*found.low, Mixes()])


def test_what_has_no_room_in_memory_goes_to_the_disk_and_the_rest_is_made_again(tmp_path: Path) -> None:
    found, windows = _pair(tmp_path)
    rows = np.arange(len(windows.lengths))
    expected = found.states(windows, rows.tolist())
    size = sum(state.numel() * 4 for state in expected[:10])
    cache = FrozenStateCache(size, size)
    for _ in range(3):
        cache.prepare(found, windows, rows, BUDGET)
        given = cache.states(found, windows, rows.tolist(), BUDGET)
        assert given is not None and all(map(torch.equal, given, expected))
    kept = sum(state.numel() * 4 for state in cache._found.values())
    assert 0 < kept <= size and 0 < cache._disk._end <= size
    assert len(cache._found) + len(cache._disk._places) + len(cache._hand) == len(
        {s.numpy().tobytes() for s in expected}
    )
    # Nobody prepared these: they are made
    again = cache.states(found, windows, rows[::-1].tolist(), BUDGET)
    assert again is not None and all(map(torch.equal, again, expected[::-1]))


def test_a_full_disk_is_no_failure_but_a_broken_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, windows = _pair(tmp_path)
    rows = list(range(len(windows.lengths)))
    expected = found.states(windows, rows)

    def fails(number: int) -> Any:
        def write(*_: Any) -> int:
            raise OSError(number, os.strerror(number))

        return write

    monkeypatch.setattr(states_module.os, "pwrite", fails(errno.ENOSPC))
    cache = FrozenStateCache(0.0, 1e9)
    given = cache.states(found, windows, rows, BUDGET)
    assert given is not None and all(map(torch.equal, given, expected)) and not cache._disk._places
    monkeypatch.setattr(states_module.os, "pwrite", fails(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        FrozenStateCache(0.0, 1e9).states(found, windows, rows, BUDGET)


@pytest.mark.slow
def test_the_builtin_encoder_reads_rows_together() -> None:
    """Else a training takes twice the time."""
    found = Student(Model(), ["PER"], seed=0, device=torch.device("cpu"))
    windows = encode(toy(), found.tokenizer, found.positions)
    found.states(windows, [0])
    assert found._readers[False].together and found._readers[False].layers is not found.low
    assert found._top is not None


@pytest.mark.parametrize("frozen", [0, 2])
@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_the_top_layer_at_words_is_the_top_layer(tmp_path: Path, kind: str, frozen: int) -> None:
    """The same logits and gradients, with the same draws of dropout."""
    found = student(tmp_path, kind=kind, frozen=frozen, dropout=0.2)
    windows = encode(_many(), found.tokenizer, found.positions)
    rows = list(range(12))
    states = found.states(windows, rows) if frozen else None
    top = found._top
    assert top is found.high[-1]
    results = []
    for own in (top, None):
        found._top = own
        found.train()
        torch.manual_seed(5)
        found.module.zero_grad()
        logits, _ = found.logits(windows, rows, states)
        logits.square().sum().backward()
        results.append((logits.detach(), {n: p.grad for n, p in found.module.named_parameters() if p.grad is not None}))
    (one, first), (two, second) = results
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    assert first.keys() == second.keys() and len(first) > 10
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-5)
    assert [name for name, _ in found.module.named_modules() if name.endswith("inner")] == []


def test_a_top_layer_of_another_kind_is_computed_whole(tmp_path: Path) -> None:
    from test_train_network import _encoder

    assert student(tmp_path, encoder=_encoder(tmp_path, "gpt2"), frozen=2)._top is None
