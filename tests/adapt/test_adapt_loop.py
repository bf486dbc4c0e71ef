"""What an encoder is taught, from which pairs, and that a training goes on as if it had not been ended."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import students
import torch
from run_folders import finished
from tiny_encoders import N_LAYERS, POSITIONS, tiny

from xner_ray.adapt import loop
from xner_ray.adapt.pairs import load
from xner_ray.adapt.recipe import Adaptation
from xner_ray.align.encoder import Encoder
from xner_ray.align.linking import AlignOptions, Padded, align
from xner_ray.errors import InputError, RecipeError, RunFolderError
from xner_ray.models import trainer
from xner_ray.recipe.load import checked

PAIRS = [(list("abcd"), list("badc")), (["ab", "c"], ["c", "ba", "d"]), (["a"], ["b"]), (list("hgf"), list("fgh"))]
CPU = torch.device("cpu")


def _vectors(*sizes: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.normal(size=(size, 8)).astype(np.float32) + 1 for size in sizes]


def _padded(arrays: list[np.ndarray]) -> Padded:
    longest = max(map(len, arrays))
    values = torch.zeros(len(arrays), longest, arrays[0].shape[1])
    exists = torch.zeros(len(arrays), longest, dtype=torch.bool)
    for row, array in enumerate(arrays):
        values[row, : len(array)] = torch.from_numpy(array)
        exists[row, : len(array)] = True
    return Padded(values.requires_grad_(), exists.long(), exists)


def _write(folder: Path, text: dict[str, str]) -> None:
    for name, lines in text.items():
        (folder / name).write_text(lines, encoding="utf-8")


def _recipe(data: Any, **sections: Any) -> Adaptation:
    return Adaptation.model_validate({"data": data, **sections})


def _files(folder: Path, **more: Any) -> list[dict[str, Any]]:
    given = {"path": str(folder / "en.txt"), "format": "text", "lang": "eng_Latn", "parallel_format": "text"}
    return [{"input": {**given, "parallel": {"spa_Latn": str(folder / "es.txt")}, **more}}]


@pytest.mark.parametrize("center", ["pair", "none"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_probabilities_are_those_of_align(center: Any, similarity: Any) -> None:
    options = AlignOptions(center=center, similarity=similarity, floor=0.0)
    sides = [_vectors(3, 5, 1, 2), _vectors(4, 2, 1, 6)]
    found = [p.detach().numpy() for p in loop.probabilities(*map(_padded, sides), options)]
    links = align(*sides, options)
    assert len(links.row) == 3 * 4 + 5 * 2 + 1 + 2 * 6
    for mine, theirs in zip(found, (links.forward, links.backward), strict=True):
        # align rounds what it compares, to 1e-4 of the greatest similarity: at temperature 0.05 that is 2e-3
        np.testing.assert_allclose(mine[links.row, links.source, links.target], theirs, atol=3e-3)


def test_loss_is_the_formula_and_has_a_finite_gradient() -> None:
    options = AlignOptions(center="pair", temperature=0.5)
    sides = [_vectors(3, 2), _vectors(2, 4)]
    a, b = map(_padded, sides)
    links = torch.zeros(2, 3, 4)
    links[0, 1, 0] = links[0, 2, 1] = links[1, 0, 3] = 1
    found = loop.loss(a, b, links, options)
    forward, backward = (p.detach() for p in loop.probabilities(a, b, options))
    expected = [
        -0.5 * (sum(forward[0, i, j] for i, j in ((1, 0), (2, 1))) / 3 + (backward[0, 1, 0] + backward[0, 2, 1]) / 2),
        -0.5 * (forward[1, 0, 3] / 2 + backward[1, 0, 3] / 4),
    ]
    torch.testing.assert_close(found.detach(), torch.stack(expected))
    alone = loop.loss(*(_padded([one[0]]) for one in sides), links[:1, :, :2], options)
    torch.testing.assert_close(alone.detach(), found[:1].detach())  # whatever it is padded to
    found.sum().backward()
    for side in (a, b):
        assert side.vectors.grad is not None
        assert bool(torch.isfinite(side.vectors.grad).all())
        assert float(side.vectors.grad[side.exists].abs().max()) > 1e-6


def test_pairs_come_from_files_line_by_line(tmp_path: Path) -> None:
    _write(tmp_path, {"en.txt": "One two.\nNo other side\nLast\n", "es.txt": "Uno dos.\n\nFin\n"})
    pairs, origins, (tally,) = load(_recipe(_files(tmp_path)))
    assert pairs == [(["One", "two", "."], ["Uno", "dos", "."]), (["Last"], ["Fin"])]
    assert origins == [0, 0]
    assert (tally.read, tally.kept, dict(tally.dropped)) == (3, 2, {"empty": 1})
    assert len(load(_recipe(_files(tmp_path, limit=1)))[0]) == 1


def test_files_of_unequal_length_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, {"en.txt": "One\nTwo\n", "es.txt": "Uno\n"})
    with pytest.raises(InputError, match=r"es\.txt ends after 1 sentences, and .*en\.txt does not"):
        load(_recipe(_files(tmp_path)))
    _write(tmp_path, {"en.txt": "One\n", "es.txt": "\n"})
    with pytest.raises(InputError, match="no sentence pair is left"):
        load(_recipe(_files(tmp_path)))


def test_a_run_that_is_not_finished_or_lacks_a_language_is_refused(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {"spa_Latn": []})
    with pytest.raises(InputError, match="has no language swh_Latn; it has spa_Latn"):
        load(_recipe([{"run": str(run), "langs": ["swh_Latn"]}]))
    (run / "_run" / "SEALED").unlink()
    with pytest.raises(RunFolderError, match="not sealed yet"):
        load(_recipe([{"run": str(run)}]))


def test_pairs_of_a_run_are_its_rows_but_for_bad_translations(tmp_path: Path) -> None:
    rows = [
        students.row("a b", flags=["bisected"]),
        students.row("c"),
        students.row("c c c", flags=["translation_repeats"]),
    ]
    both = students.run(tmp_path / "both", {lang: [*rows, students.row("d")] for lang in ("spa_Latn", "swh_Latn")})
    kept = [(["x", "y", "z"], words) for words in (["a", "b"], ["c"], ["d"])]
    pairs, _, (tally,) = load(_recipe([{"run": both}]))
    assert pairs == kept * 2
    assert tally.to_dict()["dropped"] == {"bad translation": 2} and tally.read == 8
    pairs, _, (tally,) = load(_recipe([{"run": both, "limit": 2}]))
    assert pairs == kept[:2] * 2 and tally.read == 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "give either run"),
        ({"run": "r", "input": {"path": "a", "parallel": {"spa_Latn": "b"}}}, "give either run"),
        ({"input": {"path": "a"}}, "input.parallel: is missing"),
        ({"input": {"path": "a", "parallel": {"spa_Latn": "b"}}, "langs": ["spa_Latn"]}, "langs: is for runs"),
        ({"input": {"path": "a", "parallel": {"spa_Latn": "b"}, "links": "c"}}, "input.links: is for projection"),
        ({"input": {"path": "a", "parallel": {"spa_Latn": "b"}, "carry": ["c"]}}, "input.carry: is for projection"),
        ({"input": {"path": "a", "parallel": {"spa_Latn": "b"}}, "limit": 5}, "beside input give input.limit"),
        ({"input": {"path": "a", "lang": ["eng_Latn"], "parallel": {"spa_Latn": "b"}}}, "input.lang: one language"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(data: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        checked(Adaptation, {"data": [data]}, "a.yaml")


def test_a_threshold_without_its_method_is_refused() -> None:
    with pytest.raises(RecipeError, match="threshold: is for method softmax; leave it out beside argmax"):
        checked(Adaptation, {"data": [{"run": "a"}], "objective": {"method": "argmax", "threshold": 0.1}}, "a.yaml")


@pytest.mark.parametrize("kind", ["bert", "modernbert", "m2m_100"])
def test_only_the_layers_that_alignment_reads_learn(tmp_path: Path, kind: str) -> None:
    model = {"encoder": tiny(tmp_path / "model", kind), "layer": 3, "frozen": 1}
    adaptation = _recipe(
        [{"run": "-"}],
        model=model,
        fit={"learning_rate": 1e-2, "epochs": 2, "batch_pairs": 2},
        objective={"method": "argmax", "temperature": 1.0},  # equal letters are certain at 0.05: nothing to learn
    )
    learner = loop.Learner(adaptation.model, CPU)
    pieces, whole = learner.pieces(PAIRS)
    assert whole.tolist() == [True] * len(PAIRS)
    progress = loop.fit(learner, pieces, adaptation)
    assert len(progress.history) == 2
    learner.save(str(tmp_path / "adapted"))
    before, after = (
        Encoder(str(tmp_path / name), layer=[0, 1]).encode([PAIRS[0][0]]).arrays()[0] for name in ("model", "adapted")
    )
    np.testing.assert_array_equal(before, after)  # embeddings and the frozen layer
    adapted = Encoder(str(tmp_path / "adapted"))  # layer auto is what the folder notes
    assert adapted.layers == [3]
    with torch.inference_mode():
        means, exists = learner.vectors(pieces, np.array([0]), adaptation.fit)
    np.testing.assert_allclose(adapted.encode([PAIRS[0][0]]).arrays()[0], means[0][exists[0]].numpy(), atol=1e-5)
    assert not np.allclose(
        Encoder(str(tmp_path / "model"), layer=3).encode([PAIRS[0][0]]).arrays()[0], means[0].numpy(), atol=1e-3
    )
    from transformers import AutoModel

    layers = []
    for name in ("model", "adapted"):
        whole = AutoModel.from_pretrained(tmp_path / name)
        half = getattr(whole, "encoder", whole)
        stack = next(m for m in half.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == N_LAYERS)
        layers.append(stack.state_dict())
    changed = {name.split(".")[0] for name in layers[0] if not torch.equal(layers[0][name], layers[1][name])}
    assert changed == {"1", "2"}  # layers 2 and 3: the first is frozen, the last is above the one that is read


def test_learning_makes_its_links_more_probable(tmp_path: Path) -> None:
    model = {"encoder": tiny(tmp_path, "bert"), "layer": 4}
    fit = {"learning_rate": 3e-3, "epochs": 12, "batch_pairs": 2, "warmup": 0}
    adaptation = _recipe([{"run": "-"}], model=model, fit=fit, objective={"method": "argmax"})
    learner = loop.Learner(adaptation.model, CPU)
    history = loop.fit(learner, learner.pieces(PAIRS)[0], adaptation).history
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    assert 0 < history[-1]["words_linked"] <= 1


def test_a_pair_that_the_encoder_cannot_read_at_once_is_left_out(tmp_path: Path) -> None:
    learner = loop.Learner(_recipe([{"run": "-"}], model={"encoder": tiny(tmp_path, "bert")}).model, CPU)
    long = ["ab"] * POSITIONS
    pieces, whole = learner.pieces([(["a"], long), (long, ["a"]), (["a"], ["b"]), (["\u200d"], ["a"])])
    assert whole.tolist() == [False, False, True, False]
    assert len(pieces) == 2 and (pieces.lengths == learner.pieces([(["a"], ["b"])])[0].lengths).all()


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_training_ends_in_the_same_weights(tmp_path: Path, stop: int) -> None:
    fit = {"epochs": 2, "batch_pairs": 1, "part_pairs": 2, "learning_rate": 1e-3}
    adaptation = _recipe([{"run": "-"}], model={"encoder": tiny(tmp_path, "bert")}, fit=fit)

    def ended(resume: Any = None) -> tuple[dict[str, torch.Tensor], list[Any], list[bytes]]:
        learner = loop.Learner(adaptation.model, CPU)
        states: list[bytes] = []

        def keep(progress: trainer.Progress, state: Any) -> None:
            buffer = io.BytesIO()
            torch.save(state(), buffer)
            states.append(buffer.getvalue())

        pieces, _ = learner.pieces(PAIRS)
        progress = loop.fit(learner, pieces, adaptation, resume=resume, checkpoint=keep)
        return trainer.state_of(learner.module), progress.history, states

    weights, history, states = ended()
    assert len(states) == 4
    again, its_history, rest = ended(torch.load(io.BytesIO(states[stop - 1]), weights_only=True))
    assert its_history == history
    assert len(rest) == 4 - stop
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_micro_batches_do_not_change_the_step(tmp_path: Path) -> None:
    """Without dropout, that is: the gradient of a batch is that of its parts."""
    found = []
    model = {"encoder": tiny(tmp_path, "bert")}
    for tokens in (16, 4096):
        adaptation = _recipe(
            [{"run": "-"}], model=model, fit={"micro_batch_tokens": tokens}, objective={"method": "argmax"},
        )  # fmt: skip
        learner = loop.Learner(adaptation.model, CPU)
        pieces, _ = learner.pieces(PAIRS)
        task = loop.LearnerTask(learner, pieces, adaptation)
        (batch,) = task.batches(0, 0)
        parameters = list(trainer.learning(learner.module).values())
        before = [p.detach().clone() for p in parameters]
        descent = torch.optim.SGD(parameters, lr=1.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(descent, lambda step: 1.0)
        trainer.step(task, batch, 1e9, trainer.Alone(), descent, schedule)
        found.append([p.detach() - old for p, old in zip(parameters, before, strict=True)])
    assert max(float(change.abs().max()) for change in found[0]) > 1e-3
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_layers_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    encoder = tiny(tmp_path, "bert")
    with pytest.raises(RecipeError, match=r"align\.layer is 5"):
        loop.Learner(_recipe([{"run": "-"}], model={"encoder": encoder, "layer": 5}).model, CPU)
    with pytest.raises(RecipeError, match=r"model\.frozen is 3, but alignment reads layer 3 of .*nothing would learn"):
        loop.Learner(_recipe([{"run": "-"}], model={"encoder": encoder, "layer": 3, "frozen": 3}).model, CPU)
