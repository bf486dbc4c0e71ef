"""The training loop: what a step is worth, resume to the bit, two processes as one, patience, a toy language learnt."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from students import TOY, fitting, held, sentences, student, toy
from tiny_encoders import tiny
from torch import Tensor

from xner_ray.errors import FatalError
from xner_ray.models import trainer
from xner_ray.models.trainer import Progress, load_state, state_of
from xner_ray.models.windows import Windows, micro_batches
from xner_ray.train import loop
from xner_ray.train.loop import Held, StudentTask, fit, predict
from xner_ray.train.network import Student
from xner_ray.train.states import FrozenStateCache
from xner_ray.train.student import counts_of, micro_f1, scored
from xner_ray.train.windows import encode


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Without a dropout of its own: what two trainings are to share must not depend on draws."""
    found = tiny(tmp_path_factory.mktemp("bert"), "bert")
    config = Path(found) / "config.json"
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(json.loads(config.read_text()) | off))
    return found


def _student(encoder: str, **options: Any) -> Student:
    return student(Path(), encoder=encoder, **options)


def _fit(found: Student, table: pa.Table, options: dict[str, Any], **others: Any) -> tuple[Windows, Progress]:
    settings = fitting(**options)
    plan = held(found, table, settings, others.get("group"))
    return plan.pool.windows, fit(found, plan, settings, **others)


def _task(found: Student, table: pa.Table, **options: Any) -> StudentTask:
    settings = fitting(**options)
    cache = FrozenStateCache(settings.cache_gb * 1e9)
    return StudentTask(found, held(found, table, settings), settings, cache, trainer.Alone())


def _gradients(found: Student, table: pa.Table, **options: Any) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one step over all sentences, taken where the optimizer is asked to step."""
    task = _task(found, table, **options)
    optimizer, schedule = trainer.optimizer_of(task.groups(), task.settings, 1)
    taken: dict[str, Tensor] = {}

    def take(*_: Any) -> None:
        taken.update({n: p.grad.clone() for n, p in found.module.named_parameters() if p.grad is not None})

    optimizer.register_step_pre_hook(take)
    before = state_of(found.module)
    found.train()
    assert isinstance(task.plan, Held)
    loss = trainer.step(task, task.plan.batch(np.arange(len(table))), 1e9, trainer.Alone(), optimizer, schedule)
    load_state(found.module, before)
    return loss, taken


def _same(one: dict[str, Tensor], two: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert one.keys() == two.keys() and one
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=atol)


SOFT = [(0, "B-PER", 0.5), (0, "O", 0.25), (0, "I-LOC", 0.25), (1, "I-PER", 0.9), (2, "O", 1.0)]


def test_a_step_is_a_plain_weighted_cross_entropy(encoder: str) -> None:
    """Over hard, soft and masked sentences, as one sentence after the other gives it."""
    rows = [
        {"tokens": ["ann", "saw", "bonn"], "spans": [(0, 1, "PER"), (2, 3, "LOC")], "weight": 2.0},
        {"tokens": ["amy", "b", "c", "d"], "tags": SOFT, "spans": None},
        {"tokens": ["go", "bonn", "bay"], "spans": [(1, 3, "LOC")], "masked": True, "weight": 0.5},
    ]
    found = _student(encoder)
    loss, gradients = _gradients(found, sentences(rows))
    names = found.names
    hard: dict[tuple[int, int], str] = {(0, 0): "B-PER", (0, 1): "O", (0, 2): "B-LOC", (2, 1): "B-LOC", (2, 2): "I-LOC"}
    # What the tags leave to nobody is O: 0.1 of word 1, all of word 3
    soft = {0: {"B-PER": 0.5, "O": 0.25, "I-LOC": 0.25}, 1: {"I-PER": 0.9, "O": 0.1}, 2: {"O": 1.0}, 3: {"O": 1.0}}
    found.train(False)
    sums, total = torch.zeros(()), 0.0
    for number, row in enumerate(rows):
        inputs = found.tokenizer([row["tokens"]], is_split_into_words=True, return_tensors="pt")
        words = inputs.word_ids(0)
        logits = found.module(input_ids=inputs["input_ids"]).logits[0].log_softmax(-1)
        for word in range(len(row["tokens"])):
            wanted = soft[word] if number == 1 else {hard[number, word]: 1.0} if (number, word) in hard else {}
            share = -sum(p * logits[words.index(word), names.index(name)] for name, p in wanted.items())
            weight = float(row.get("weight", 1.0)) * bool(wanted)
            sums, total = sums + weight * share, total + weight
    expected = sums / total
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    found.module.zero_grad()
    expected.backward()
    plain = {n: p.grad for n, p in found.module.named_parameters() if p.grad is not None}
    _same({name: gradients[name] for name in plain}, plain)


def test_a_weight_of_two_is_the_sentence_twice(encoder: str) -> None:
    found = _student(encoder)
    twice = _gradients(found, pa.concat_tables([toy(), toy().slice(0, 2)]))
    heavy = [{"tokens": w.split(), "spans": s, "weight": 2.0 if n < 2 else 1.0} for n, (w, s) in enumerate(TOY)]
    weighted = _gradients(found, sentences(heavy))
    assert twice[0] == pytest.approx(weighted[0], rel=1e-5)
    _same(twice[1], weighted[1])


def test_o_words_of_a_masked_sentence_teach_nothing(encoder: str) -> None:
    found = _student(encoder)
    loss, gradients = _gradients(found, sentences([{"tokens": ["a", "cat"], "spans": [], "masked": True}]))
    assert loss == 0.0 and all(not value.any() for value in gradients.values())


def test_micro_batches_do_not_change_the_step(encoder: str) -> None:
    found = _student(encoder)
    _same(_gradients(found, toy())[1], _gradients(found, toy(), micro_batch_tokens=16)[1])
    sizes = encode(toy(), found.tokenizer, found.positions).lengths
    parts = [part.tolist() for part in micro_batches(sizes, 40)]
    assert sorted(row for part in parts for row in part) == list(range(len(sizes)))
    assert all(len(part) * max(sizes[part]) <= 40 or len(part) == 1 for part in parts) and len(parts) > 1


def test_every_sentence_is_in_one_batch_of_an_epoch(encoder: str) -> None:
    found = _student(encoder)
    task = _task(found, pa.concat_tables([toy()] * 30), batch_sentences=3)
    first, second, again = ([batch.sentences for batch in task.batches(epoch, 0)] for epoch in (0, 1, 0))
    for batches in (first, second):
        assert sorted(np.concatenate(batches).tolist()) == list(range(240)) and len(batches) == 80
    assert [b.tolist() for b in first] == [b.tolist() for b in again]
    assert [b.tolist() for b in first] != [b.tolist() for b in second]
    task.settings = fitting(batch_sentences=3, checkpoints_per_epoch=7)
    parts = [b.sentences.tolist() for part in range(7) for b in task.batches(0, part)]
    assert parts == [b.tolist() for b in first]


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0, 2])
def test_a_resumed_training_is_the_same_to_the_bit(encoder: str, frozen: int) -> None:
    options = {"epochs": 3, "checkpoints_per_epoch": 2, "batch_sentences": 2, "patience": None}
    table = toy()

    def trained(**others: Any) -> tuple[Student, Progress]:
        found = _student(encoder, frozen=frozen, dropout=0.3)
        scores = iter([0.1, 0.5, 0.2, 0.5, 0.3, 0.4][others.pop("done", 0) :])
        return found, _fit(found, table, options, validate=lambda: next(scores), **others)[1]

    states: list[Any] = []
    whole, progress = trained(checkpoint=lambda _, state: states.append(state()))
    assert len(states) == 6 and progress.best == 2
    for done, state in enumerate(states, start=1):
        before = copy.deepcopy(state)
        found, again = trained(resume=state, done=done)
        assert vars(again) == vars(progress)
        for name, value in state_of(whole.module).items():
            assert torch.equal(value, state_of(found.module)[name]), (done, name)
        assert str(state) == str(before)  # what is resumed from stays what it is
    # It ended with the weights of the best checkpoint, not the last
    assert all(torch.equal(value, states[1]["weights"][name]) for name, value in state_of(whole.module).items())
    assert any(not torch.equal(value, states[5]["weights"][name]) for name, value in state_of(whole.module).items())


def test_frozen_weights_stay_and_kept_states_change_nothing(encoder: str) -> None:
    results = []
    for cache_gb, cache_disk_gb in ((2.0, 0.0), (0.0, 0.0), (2e-6, 0.0), (0.0, 1e-3), (2e-6, 2e-6)):
        found = _student(encoder, frozen=2)
        before = {name: value.clone() for name, value in found.module.state_dict().items()}
        _fit(found, toy(), {"cache_gb": cache_gb, "cache_disk_gb": cache_disk_gb, "batch_sentences": 1})
        moved = {n for n, value in found.module.state_dict().items() if not torch.equal(value, before[n])}
        assert moved and moved <= set(state_of(found.module))
        results.append(state_of(found.module))
    for other in results[1:]:
        assert all(torch.equal(value, other[name]) for name, value in results[0].items())


def test_students_of_several_kinds_share_states_that_are_theirs(encoder: str) -> None:
    """Other frozen layers, other weights under the same name, other precision: none takes another's states."""
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (lambda: _student(encoder, frozen=2), {}),
        (lambda: _student(encoder, frozen=1), {}),
        (lambda: _student(encoder, frozen=2), {"dtype": "bfloat16"}),
        (lambda: _moved(_student(encoder, frozen=2)), {}),
    ]
    shared, results = FrozenStateCache(1e9), []
    for make, options in kinds:
        for cache in (FrozenStateCache(1e9), shared):
            found = make()
            fit(found, held(found, toy(), fitting(**options)), fitting(**options), cache=cache)
            results.append(state_of(found.module))
    for alone, together in zip(results[::2], results[1::2], strict=True):
        assert all(torch.equal(value, together[name]) for name, value in alone.items())
    assert len(shared._found) == len(kinds) * len(toy())


def _moved(found: Student) -> Student:
    with torch.no_grad():
        for parameter in found.low[0].parameters():
            parameter.add_(0.1)
    found.frozen_digest = found._digest()
    return found


class _Threads:
    """Processes that train together, as threads of this one."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.values = size, threading.Barrier(size), [None] * size

    def member(self, rank: int) -> Any:
        outer = self

        class Member:
            size = outer.size

            def __init__(self) -> None:
                self.rank = rank

            def gather(self, value: Any) -> list[Any]:
                outer.values[rank] = copy.deepcopy(value)
                outer.barrier.wait(60)
                found = list(outer.values)
                outer.barrier.wait(60)
                return found

            def add(self, tensors: Sequence[Tensor]) -> None:
                every = self.gather([tensor.detach().clone() for tensor in tensors])
                for place, tensor in enumerate(tensors):
                    tensor.copy_(sum(each[place] for each in every))

        return Member()


@pytest.mark.parametrize("frozen", [0, 2])
def test_two_processes_take_the_steps_of_one(encoder: str, frozen: int) -> None:
    table = toy()
    # Odd batches, so that the shares differ; a weight decay that acts also where a process has no sentence
    options = {"batch_sentences": 3, "epochs": 3, "weight_decay": 0.1}
    alone = _student(encoder, frozen=frozen)
    pieces, progress = _fit(alone, table, options)
    together = _Threads(2)
    found = [_student(encoder, frozen=frozen) for _ in range(2)]
    results: list[Any] = [None, None]

    def work(rank: int) -> None:
        group = together.member(rank)
        own = _fit(found[rank], table, options, group=group)[1]
        results[rank] = own, predict(found[rank], pieces, fitting(), group=group)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = predict(alone, pieces, fitting()).tolist()
    for own, (other, classes) in zip(found, results, strict=True):
        _same(state_of(alone.module), state_of(own.module), atol=2e-4)
        assert [e["loss"] for e in other.history] == pytest.approx([e["loss"] for e in progress.history], abs=1e-3)
        assert classes.tolist() == expected
    assert all(torch.equal(v, state_of(found[1].module)[n]) for n, v in state_of(found[0].module).items())


def _scores(*values: float) -> Callable[[], float]:
    given = iter(values)
    return lambda: next(given)


def test_patience_counts_checkpoints_without_a_better_score(encoder: str) -> None:
    options = {"epochs": 9, "patience": 2}
    _, progress = _fit(_student(encoder), toy(), options, validate=_scores(0.0, 0.4, 0.4, 0.3))
    assert (progress.checkpoint, progress.best, progress.stopped) == (4, 2, True)
    assert [entry["f1"] for entry in progress.history] == [0.0, 0.4, 0.4, 0.3]
    assert [entry["epoch"] for entry in progress.history] == [1, 2, 3, 4]
    _, progress = _fit(_student(encoder), toy(), {"epochs": 2, "patience": 2}, validate=_scores(0.1, 0.0))
    assert not progress.stopped and progress.best == 1


def test_there_is_a_step_to_each_checkpoint(encoder: str) -> None:
    _, progress = _fit(_student(encoder), toy(), {"epochs": 1, "checkpoints_per_epoch": 50})
    assert [entry["epoch"] for entry in progress.history] == [0.5, 1]
    assert all(np.isfinite(entry["loss"]) for entry in progress.history)


def test_a_loss_that_is_no_number_ends_it(encoder: str) -> None:
    found = _student(encoder)
    with torch.no_grad():
        found.module.classifier.bias.fill_(float("nan"))
    with pytest.raises(FatalError, match="the loss is not a finite number; lower the learning rates under fit"):
        _fit(found, toy(), {})


def _by_two(encoder: str, pieces: Windows, spoilt: Sequence[int] = ()) -> list[Any]:
    """Return what `predict` gives in each of two processes, or its error. spoilt: whose weights are no numbers."""
    together, found = _Threads(2), [None, None]
    students = [_student(encoder) for _ in range(2)]
    for rank in spoilt:
        with torch.no_grad():
            students[rank].module.classifier.bias.fill_(float("nan"))

    def work(rank: int) -> None:
        try:
            found[rank] = predict(students[rank], pieces, fitting(), group=together.member(rank)).tolist()
        except FatalError as error:
            found[rank] = str(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_tags_do_not_depend_on_what_is_read_together(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences without a word that is read, and long ones of several windows, among others."""
    texts = ["ab", "", "abcdefghij" * 5, "\u200d", "ba", "cd e", "a" * 70, "fg"]
    table = sentences([{"tokens": text.split() or list(text), "spans": []} for text in texts])
    found = _student(encoder)
    pieces = encode(table, found.tokenizer, found.positions)
    whole = predict(found, pieces, fitting()).tolist()
    assert len(whole) == sum(len(each) for each in table.column("tokens").to_pylist())
    monkeypatch.setattr(loop, "_AHEAD", 2)
    assert predict(found, pieces, fitting()).tolist() == whole
    assert predict(found, pieces, fitting(micro_batch_tokens=32)).tolist() == whole
    assert _by_two(encoder, pieces) == [whole, whole]
    one = encode(table.slice(0, 1), found.tokenizer, found.positions)
    assert _by_two(encoder, one) == [predict(found, one, fitting()).tolist()] * 2  # one process has no sentence


def test_probabilities_that_are_no_numbers_end_it_in_every_process(encoder: str) -> None:
    found = _student(encoder)
    pieces = encode(toy(), found.tokenizer, found.positions)
    first, second = _by_two(encoder, pieces, spoilt=[1])
    assert first == second and first.startswith("fit: the student's probabilities are no finite numbers")


def test_the_rate_rises_and_falls(encoder: str) -> None:
    task = _task(_student(encoder), pa.concat_tables([toy()] * 2), warmup=0.2)
    assert task.n_steps == 4
    optimizer, schedule = trainer.optimizer_of(task.groups(), task.settings, 20)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [1 / 4, 2 / 4, 3 / 4, 1, *(1 - n / 16 for n in range(16))]
    assert rates == pytest.approx([1e-3 * each for each in expected])
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.01}


@pytest.mark.slow
def test_a_toy_language_is_learnt(encoder: str) -> None:
    found = _student(encoder)
    table = toy()
    pieces, progress = _fit(found, table, {"epochs": 60, "learning_rate": 3e-3})
    table = scored(table, pieces, predict(found, pieces, fitting()), found.names)
    assert micro_f1(counts_of(table)) == 1.0
    assert progress.history[-1]["loss"] < 0.1 < progress.history[0]["loss"]
