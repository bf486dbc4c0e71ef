"""Streamed sentences: the same as those that are held, each once an epoch, in shares of workers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from students import CPU, TOY, Row, fitting, row, run, student, training
from tiny_encoders import tiny

from xner_ray.errors import InputError
from xner_ray.models.trainer import state_of
from xner_ray.train import stream
from xner_ray.train.load import fingerprint
from xner_ray.train.loop import Pool, Streamed, fit, predict, steps_of
from xner_ray.train.recipe import Fit, Training
from xner_ray.train.sentences import Tally
from xner_ray.train.sources import kept, load
from xner_ray.train.stream import Survey, is_large, read_blocks, survey
from xner_ray.train.student import counts_of, micro_f1, read, scored, train
from xner_ray.train.windows import Block, PoolPlan, dealt, encode, goal, pools

if TYPE_CHECKING:
    from s3_server import S3Server


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_ROWS", 4)


def _rows(n: int, prefix: str = "") -> list[Row]:
    link = {"source": 1, "target": 0, "forward": 0.9, "backward": 0.9, "cosine": 0.5, "methods": 1}
    rows = []
    for number in range(n):
        lost: Row = {"complete": False, "unprojected": [{"source": 0, "reason": "low_score"}], "links": [link]}
        lost["source_spans"] = [{"start": 1, "end": 2, "label": "PER", "score": 1.0}]
        words = f"{prefix}Ann b{number % 17 * 'a'} saw bonn"
        score = (number % 10) / 10
        spans = [(1, 2, "PER"), (3, 4, "MISC" if number % 6 == 0 else "LOC")]
        rows.append(
            row(words, *spans[number % 2 :], score=score, doc_id=f"d{number // 3}", **(lost if number % 5 == 0 else {}))
        )
    return rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = {"spa_Latn": _rows(70), "swh_Latn": _rows(41, "x")}
    return run(tmp_path_factory.mktemp("stream") / "run", rows, unit_rows=16, rows_per_file=30)


def _survey(given: Training, held_out: bool | None = None) -> Survey:
    tallies: list[Tally] = []
    return survey(given, kept(given, "data", tallies, held_out=held_out), tallies)


def _sorted(table: pa.Table) -> list[Row]:
    return table.sort_by([("source", "ascending"), ("lang", "ascending"), ("row", "ascending")]).to_pylist()


@pytest.mark.parametrize(
    ("source", "others"),
    [
        ({}, {}),
        ({"langs": ["swh_Latn"], "weight_by": "score", "weight": 2.0}, {}),
        ({"filters": {"incomplete": "words", "mask_below": 0.3}}, {"labels": {"mask": ["MISC"]}}),
        (
            {"filters": {"incomplete": "mask", "duplicates": "drop", "words": [4, 99]}},
            {"labels": {"rename": {"PER": "P"}}},
        ),
        ({"filters": {"incomplete": "drop", "min_score": 0.2}}, {"labels": {"keep": ["LOC"]}}),
        ({"side": "source"}, {}),
        ({"labels": "gold"}, {"folds": {"n": 3, "held_out": 1}}),
        ({}, {"validation_share": 0.4}),
    ],
)
def test_blocks_hold_what_is_held_otherwise(finished: str, source: Row, others: Row) -> None:
    given = training({"run": finished, **source}, **others)
    held_out = False if given.validation_share else None
    table, tallies = load(given, "data", held_out=held_out)
    found = _survey(given, held_out)
    assert [tally.to_dict() for tally in found.tallies] == [tally.to_dict() for tally in tallies]
    assert found.n_rows == table.num_rows > 0 and found.labels == read(given).labels
    assert found.n_entities == sum(map(len, table.column("spans").to_pylist()))
    assert all(0 < block.n_rows <= 4 and block.table is None for block in found.blocks)
    assert _sorted(read_blocks(given, found.blocks)) == _sorted(table)
    assert _sorted(read_blocks(given, found.blocks[::-3])) == _sorted(
        pa.concat_tables([read_blocks(given, [block]) for block in found.blocks[::-3]])
    )


def test_files_and_teachers_are_held(finished: str, tmp_path: Path) -> None:
    (tmp_path / "more.conll").write_text("".join(f"Ann B-PER\nw{n} O\n\n" for n in range(9)))
    more = {"input": {"path": str(tmp_path / "more.conll"), "lang": "spa_Latn"}}
    tags = [{"word": 0, "tag": "B-PER", "probability": 1.0}]
    soft = run(tmp_path / "soft", {"spa_Latn": [row(f"a w{n}", target_tags=tags) for n in range(9)]})
    taught = {"run": soft, "labels": "soft", "teachers": [{"run": soft}]}
    given = training(more, {"run": finished}, taught)
    found, (table, _) = _survey(given), load(given, "data")
    assert [block.table is not None for block in found.blocks if block.source != 1] == [True] * 6
    assert _sorted(read_blocks(given, found.blocks)) == _sorted(table)


def test_what_is_streamed_and_what_is_wrong(finished: str) -> None:
    def asked(n: int, **source: Any) -> Training:
        return training({"run": finished, **source}, fit={"shuffle_sentences": n})

    assert is_large(asked(110)) and not is_large(asked(111))
    assert is_large(asked(40, langs=["swh_Latn"])) and not is_large(asked(41, langs=["swh_Latn"]))
    four = {"resources": {"workers": 4}}
    keys = [fingerprint(training({"run": finished}, fit={"shuffle_sentences": n}, **four)) for n in (110, 111)]
    assert ["resources.workers" in each for each in keys] == [True, False], "which blocks are whose"
    assert isinstance(read(asked(50)).data, Survey) and isinstance(read(asked(500)).data, pa.Table)
    with pytest.raises(InputError, match=r"data: no sentence is left \(.*111 read, 111 length\)"):
        read(asked(50, filters={"words": [90, 99]}))


def _blocks(*sizes: int) -> list[Block]:
    first = 0
    found = []
    for size in sizes:
        found.append(Block(0, size, places=np.arange(first, first + size)))
        first += size
    return found


def test_pools_share_out_all_steps_and_no_pool_is_small() -> None:
    sizes = np.random.default_rng(0).integers(1, 20, 60).tolist()
    blocks = _blocks(*sizes)
    for n_steps in (1, 7, 40, 500):
        plans = pools(blocks, n_steps, 64, np.random.default_rng(3))
        assert [plans[0].first, *(plan.end for plan in plans)] == [*(plan.first for plan in plans), n_steps]
        assert sorted(id(block) for plan in plans for block in plan.blocks) == sorted(map(id, blocks))
        rows = [sum(block.n_rows for block in plan.blocks) for plan in plans]
        assert all(32 <= n < 64 + 20 + 32 for n in rows) and len(rows) > 5
        for n, plan in zip(rows, plans, strict=True):
            assert abs((plan.end - plan.first) - n * n_steps / sum(sizes)) <= 1
    assert pools([], 5, 64, np.random.default_rng(0)) == [PoolPlan([], 0, 5)]


def _streamed(blocks: list[Block], rank: int, size: int, **options: Any) -> Streamed:
    class Group:
        def __init__(self) -> None:
            self.rank, self.size = rank, size

        def add(self, tensors: Any) -> None:
            pass

        def gather(self, value: Any) -> list[Any]:
            return [value]

    def made(own: Any) -> Any:
        places = np.concatenate([np.empty(0, np.int64), *(block.places for block in own)])

        class Fake:
            windows = places
            sizes = places % 7

            @staticmethod
            def weight(sentences: Any) -> float:
                return float(len(sentences))

        return Fake()

    return Streamed(blocks, made, fitting(batch_sentences=8, shuffle_sentences=64, **options), Group())


def _seen(plan: Streamed, epoch: int, start: int = 0, end: int = 10**6) -> list[list[int]]:
    return [batch.pool.windows[batch.sentences].tolist() for batch in plan.batches(epoch, start, end)]


@pytest.mark.parametrize("size", [1, 2, 3, 70])
def test_each_sentence_is_read_once_an_epoch_by_one_worker(size: int) -> None:
    blocks = _blocks(*[9] * 61)
    n_steps = steps_of(9 * 61, fitting(batch_sentences=8))
    workers = [_streamed(blocks, rank, size) for rank in range(size)]
    epochs = [[_seen(worker, epoch) for worker in workers] for epoch in (0, 1)]
    for shares in epochs:
        assert all(len(share) == n_steps for share in shares)
        assert Counter(n for share in shares for step in share for n in step) == Counter(range(9 * 61))
        sums = [sum(len(share[step]) for share in shares) for step in range(n_steps)]
        if size <= 3:
            assert max(sums) <= 8 + 2 * size and min(sums) >= 8 - 2 * size
    # A worker has the same sentences in each epoch, in another order; another seed deals otherwise
    for first, second in zip(*epochs, strict=True):
        one, two = ([n for step in share for n in step] for share in (first, second))
        assert sorted(one) == sorted(two) and (one != two or not one)
    assert _seen(workers[0], 0) == epochs[0][0]
    if size > 1:
        assert dealt(blocks, 0, 0, size) != dealt(blocks, 1, 0, size)


def test_parts_of_an_epoch_are_the_epoch() -> None:
    plan = _streamed(_blocks(*[9] * 61), 1, 2)
    whole = _seen(plan, 3)
    edges = [0, 1, 5, 20, 44, len(whole)]
    assert [step for a, b in pairwise(edges) for step in _seen(plan, 3, a, b)] == whole
    calls: list[int] = []
    own = plan._read

    def counted(blocks: Sequence[Block]) -> Pool:
        calls.append(len(blocks))
        return own(blocks)

    plan._read = counted
    _seen(plan, 3, 60, 62)
    assert len(calls) == 1  # what is done already is not read again


OPTIONS = {"epochs": 3, "batch_sentences": 3, "checkpoints_per_epoch": 2, "learning_rate": 3e-3}


def _toy(tmp_path: Path, n: int, **fit: Any) -> Training:
    rows = [row(words, *spans) for words, spans in TOY] * n
    path = run(tmp_path / "toy", {"spa_Latn": rows}, unit_rows=8, rows_per_file=16)
    model = {"encoder": tiny(tmp_path, "bert"), "layers": 3, "frozen": 1, "dropout": 0.1}
    return training(
        {"run": path}, evaluate=[{"run": path}], model=model, fit={**OPTIONS, "shuffle_sentences": 12, **fit}
    )


def test_a_streamed_training_resumes_to_the_bit(tmp_path: Path) -> None:
    recipe = _toy(tmp_path, 5)
    states: list[Any] = []
    said: list[str] = []
    whole = train(recipe, samples=0, device=CPU, checkpoint=lambda _, state: states.append(state()), say=said.append)
    assert (
        isinstance(whole.data.data, Survey)
        and "3 epochs of 14 steps with 3 sentences each, read as they are needed" in said
    )
    for number in (0, 2, 4):
        again = train(recipe, samples=0, device=CPU, resume=states[number])
        assert again.report(recipe) == whole.report(recipe)
        for name, value in state_of(whole.student.module).items():
            assert torch.equal(value, state_of(again.student.module)[name])


@pytest.mark.slow
def test_two_workers_learn_a_toy_language_from_their_shares(tmp_path: Path) -> None:
    from test_loop import _Threads

    recipe = _toy(tmp_path, 5, epochs=40, checkpoints_per_epoch=1)
    blocks, settings, together = _survey(recipe).blocks, recipe.fit, _Threads(2)
    students = [student(tmp_path, encoder=recipe.model.encoder, layers=3, frozen=1) for _ in range(2)]
    read_by: list[set[int]] = [set(), set()]
    histories: list[Any] = [None, None]

    def work(rank: int) -> None:
        found, group = students[rank], together.member(rank)

        def pool(own: Sequence[Block]) -> Pool:
            read_by[rank].update(n for block in own if block.places is not None for n in block.places.tolist())
            table = read_blocks(recipe, own)
            windows = encode(table, found.tokenizer, found.positions)
            return Pool(windows, goal(table, windows, found.names))

        plan = Streamed(blocks, pool, settings, group)
        histories[rank] = fit(found, plan, settings, group=group).history

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, two = (state_of(each.module) for each in students)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert histories[0] == histories[1] and histories[0][-1]["loss"] < 0.1 < histories[0][0]["loss"]
    assert all(read_by)
    table, _ = load(recipe, "evaluate")
    windows = encode(table, students[0].tokenizer, students[0].positions)
    found = scored(table, windows, predict(students[0], windows, settings), students[0].names)
    assert micro_f1(counts_of(found)) == 1.0


def test_a_run_in_an_object_store_is_read_by_ranges(s3: S3Server) -> None:
    path = run(s3.uri("bucket/run"), {"spa_Latn": _rows(64)}, unit_rows=8, rows_per_file=64)
    given = training({"run": path})
    found, (table, _) = _survey(given), load(given, "data")
    assert _sorted(read_blocks(given, found.blocks)) == _sorted(table)
    assert len(found.blocks) == 16


def test_a_pool_is_what_is_held(finished: str, tmp_path: Path) -> None:
    given = training({"run": finished})
    found = student(tmp_path)
    table = read_blocks(given, _survey(given).blocks)
    windows = encode(table, found.tokenizer, found.positions)
    pool = Pool(windows, goal(table, windows, ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-PER", "I-PER"]))
    assert pool.weight(np.arange(len(windows))) == pool.goal.weight.sum() and len(pool.sizes) == 111


def test_pools_too_small_for_a_step_are_refused() -> None:
    with pytest.raises(ValueError, match="shuffle_sentences: 31 is less than two steps of 16 sentences"):
        Fit(shuffle_sentences=31)
    assert Fit(shuffle_sentences=32).shuffle_sentences == 32
