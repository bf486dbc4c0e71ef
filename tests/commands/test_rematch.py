"""The command rematch on synthetic runs, with tasks that run here. `test_combine_runs.py` has combine."""

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_runs import (
    ITERMAX,
    MWMF,
    NONE,
    ROWS,
    SOFT,
    SPANISH,
    digests,
    killed_again,
    link_of,
    make_run,
    recipe_of,
    row_of,
)

from xner_ray.commands import inspect, project
from xner_ray.commands.rematch import refuse_other_candidates, rematch
from xner_ray.commands.session import Begun
from xner_ray.data.links import METHODS
from xner_ray.engine import second_pass
from xner_ray.engine.inline import InlineExecutor
from xner_ray.errors import DamageError, RecipeError, RunFolderError
from xner_ray.recipe.fingerprint import TAGGER_CANDIDATES, fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.run import parts as part_files
from xner_ray.run import whole
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage


def _times(run: Path, below: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.glob(below)}


@pytest.mark.slow
def test_a_kill_at_any_moment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_pass, "_FAN_IN", 2)
    source, new = make_run(tmp_path / "source", rows=SPANISH, unit_rows=24), tmp_path / "new"
    publish, written = storage.publish, []
    with monkeypatch.context() as patch:
        patch.setattr(storage, "publish", lambda *file: written.append(file) or publish(*file))
        rematch(source, new)
    expected = digests(new)
    for n in range(len(written)):
        shutil.rmtree(new)
        for file in written[:n]:
            publish(*file)
        done = {path: time for path, time in _times(new, "_run/*/0001/*").items() if "-0-" not in path.name}
        rematch(source, new)
        assert digests(new) == expected, f"killed before {written[n][0]}"
        assert done.items() <= _times(new, "_run/*/*/*").items(), "made again"
    # The same with --fresh, of a finished run and then of torn ones
    assert len(list(killed_again(monkeypatch, lambda: rematch(source, new, fresh=True)))) > len(written) > 15
    assert digests(new) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([*NONE, "output.incomplete=reject"], [*SOFT, "output.incomplete=keep"]),
        (["match.solver=heuristic"], [*SOFT, "output.incomplete=reject"]),
        (SOFT, ["align.method=argmax", "match.scores={soft: 1.0, align: 0.1}"]),
    ],
)
def test_rematching_equals_a_run_made_so_and_back(before: list[str], after: list[str], tmp_path: Path) -> None:
    default = recipe_of(["spa_Latn"]).model_dump(mode="json")
    reset = [f"{name}={json.dumps(default[name])}" for name in ("match", "output")] + ["align.method=itermax"]
    one, other = (make_run(tmp_path / name, given, SPANISH) for name, given in (("one", before), ("other", after)))
    rematch(other, tmp_path / "other2")
    rematch(one, tmp_path / "new", overrides=[*reset, *after])
    expected = digests(tmp_path / "other2")
    assert digests(tmp_path / "new") == expected
    made = RunFolder(str(tmp_path / "new"))
    assert (made.recipe(), made.keys()["input file a"]) == (RunFolder(str(other)).recipe(), "1-2")
    rematch(tmp_path / "new", tmp_path / "back", overrides=[*reset, *before])
    rematch(one, tmp_path / "one2")
    assert digests(tmp_path / "back") == digests(tmp_path / "one2")
    assert digests(tmp_path / "back")["sealed"] != expected["sealed"], "the settings change nothing"


def test_links_of_mwmf_are_gone_where_it_is_not_asked_for(tmp_path: Path) -> None:
    """A run with another method would not have stored the cells that mwmf alone links: they are part of no score."""
    plain, extra = [link_of(2, 0)], [link_of(1, 0, 0.04, MWMF), link_of(2, 0, 1.0, ITERMAX | MWMF)]
    for name, links, method in (("plain", plain, "itermax"), ("mwmf", extra, "mwmf")):
        rows = [row_of("of the Rhine", "Rin", 1, links), row_of("a Po", "Po", 1, [], gold_spans=None)] * 2
        rows.append(ROWS["spa_Latn"][-1])
        source = make_run(tmp_path / name, [*NONE, f"align.method={method}"], {"spa_Latn": rows})
        rematch(source, tmp_path / f"new-{name}", overrides=["align.method=itermax"])
    rematch(source, tmp_path / "kept")
    assert digests(tmp_path / "new-mwmf") == digests(tmp_path / "new-plain")
    assert digests(tmp_path / "kept")["sealed"] != digests(tmp_path / "new-plain")["sealed"]
    with pytest.raises(RecipeError, match=r"align\.method is mwmf, which the links of this run do not have"):
        rematch(tmp_path / "new-mwmf", tmp_path / "back", overrides=["align.method=mwmf"])


@pytest.mark.slow
def test_a_rematched_run_grows_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large, new = make_run(tmp_path / "small", rows=SPANISH), make_run(tmp_path / "large"), tmp_path / "new"
    rematch(small, new)
    rematch(large, tmp_path / "whole")
    kept = _times(new, "_run/*/0001/spa_Latn*.parquet")
    assert len(kept) == 5  # 2 parts, their prior, 2 refined parts
    for n in killed_again(monkeypatch, lambda: rematch(large, new)):
        # The first change keeps what SEALED says of parts, the second deletes it.
        assert n < 2 or RunFolder(str(new)).sealed() is None, "sealed while further languages are made"
    assert digests(new) == digests(tmp_path / "whole")
    assert RunFolder(str(new)).recipe().languages == list(ROWS)
    assert _times(new, "_run/*/0001/spa_Latn*.parquet") == kept
    with pytest.raises(RunFolderError, match="targets: swh_Latn there, missing now"):
        rematch(small, new)


def test_other_units_of_the_same_recipe_are_refused(tmp_path: Path) -> None:
    """Equal names of units do not mean equal rows."""
    rematch(make_run(tmp_path / "source"), tmp_path / "new")
    other = make_run(tmp_path / "other", unit_rows=40)
    os.unlink(tmp_path / "new/_run/SEALED")
    with pytest.raises(RunFolderError, match="holds the same recipe in other units"):
        rematch(other, tmp_path / "new")


@pytest.mark.parametrize("name", ["source", "source/.", "link", "file"])
def test_a_run_is_never_rematched_onto_itself(name: str, tmp_path: Path) -> None:
    source = make_run(tmp_path / "source")
    os.symlink(source, tmp_path / "link")
    before = _times(source, "**/*")
    with pytest.raises(RunFolderError, match="rematch fills another folder"):
        rematch(source, f"file://{source}" if name == "file" else tmp_path / name, fresh=True)
    assert _times(source, "**/*") == before


def test_an_unfinished_source_is_refused(tmp_path: Path) -> None:
    source = make_run(tmp_path / "source")
    folder = RunFolder(str(source))
    units, keys = folder.read_record("units.parquet"), folder.keys()
    folder.begin(recipe_of([*ROWS, "deu_Latn"]), keys, b"of deu_Latn too", 10)
    storage.publish(folder.units_path, units)  # killed before its units were listed
    with pytest.raises(DamageError, match=r"units\.parquet: is not the one that fingerprint\.json names"):
        rematch(source, tmp_path / "new")
    os.unlink(next(iter(RunFolder(str(source)).parts().values())))
    folder.begin(recipe_of(list(ROWS)), keys, units, 10)
    with pytest.raises(RunFolderError, match="1 units are not done; finish the run first"):
        rematch(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


REFUSED = (
    "align.encoder=bert align.layer=3 align.workers=2 input.path=/other input.labels.keep=[LOC] source_lang=deu_Latn "
    "translate.model=other tag.engine=spacy engine.unit_rows=7"
)


@pytest.mark.parametrize("override", REFUSED.split())
def test_rematch_refuses_what_it_cannot_follow(override: str, tmp_path: Path) -> None:
    key = override.partition("=")[0]
    allowed = r"allowed: match\.\*, output\.\*, align\.method, engine\.address, engine\.executor$"
    with pytest.raises(RecipeError, match=rf"^rematch cannot set {key}; {allowed}"):
        rematch(
            make_run(tmp_path / "source", rows={"spa_Latn": ROWS["spa_Latn"][:1]}),
            tmp_path / "new",
            overrides=["match.max_words=3", override],
        )


def test_rematch_does_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder here that is named as the run's model is no other model."""
    source = make_run(tmp_path / "source", rows={"spa_Latn": ROWS["spa_Latn"][:3]})
    os.mkdir(tmp_path / "builtin")
    monkeypatch.chdir(tmp_path)
    rematch(source, tmp_path / "new", overrides=["match.min_score=0.5"])
    made = RunFolder(str(tmp_path / "new")).recipe()
    assert (made.align.encoder, made.match.min_score) == ("builtin", 0.5)


NEW_COLUMNS = ["bridge_tokens", "bridge_spans", "target_tags", "evidence"]


def test_a_run_from_before_its_newest_columns_can_be_used(tmp_path: Path) -> None:
    new, old = make_run(tmp_path / "new", rows=SPANISH), make_run(tmp_path / "old", rows=SPANISH)
    rematch(new, tmp_path / "of_new")
    for path in RunFolder(str(old)).parts().values():
        counters = whole.counters(path)
        part_files.write_part(path, part_files.read_part(path).drop_columns(NEW_COLUMNS), counters)
    rematch(old, tmp_path / "of_old")
    assert digests(tmp_path / "of_old") == digests(tmp_path / "of_new")
    console = Console(file=io.StringIO(), width=100)
    console.print(inspect.explain(old, "s3"))
    assert "Rhine" in console.file.getvalue()  # type: ignore[attr-defined]


def _given(path: Path, method: str) -> Path:
    """A run of given links: they are of every method."""
    every = (1 << len(METHODS)) - 1
    rows = [{**row, "links": [{**link, "methods": every} for link in row["links"]]} for row in SPANISH["spa_Latn"][:-1]]
    given = ["align.backend=provided", "input.links=/nowhere/links", f"align.method={method}"]
    return make_run(path, [*NONE, *given], {"spa_Latn": rows})


def test_given_links_stay_of_every_method(tmp_path: Path) -> None:
    """The fingerprint of such a run has no method, so no method may change a row."""
    for method in ("itermax", "mwmf"):
        rematch(_given(tmp_path / method, method), tmp_path / f"new-{method}")
    assert digests(tmp_path / "new-itermax")["sealed"] == digests(tmp_path / "new-mwmf")["sealed"]
    rematch(tmp_path / "itermax", tmp_path / "other", overrides=["align.method=mwmf"])
    assert digests(tmp_path / "other")["sealed"] == digests(tmp_path / "new-mwmf")["sealed"]


LIKELIHOOD = ["likelihood.engine=nllb", "match.prior=none", "match.scores={soft: 1.0, likelihood: 0.5}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "override", ["match.scores.likelihood=2", "match.candidates=ngram", "match.min_score=0.1", "align.method=argmax"]
)
def test_likelihood_is_not_rematched_where_other_cells_could_win(override: str, tmp_path: Path) -> None:
    """A run that is made so computes other cells, so the rows would differ under one fingerprint."""
    source = make_run(tmp_path / "source", LIKELIHOOD, {"spa_Latn": ROWS["spa_Latn"][:3]})
    with pytest.raises(RecipeError, match=rf"^rematch cannot set {override.partition('=')[0]}: the score likelihood"):
        rematch(source, tmp_path / "new", overrides=[override])
    assert not (tmp_path / "new").exists()
    rematch(source, tmp_path / "same", overrides=["match.solver=greedy", "match.prior=none", "match.workers=1"])
    rematch(source, tmp_path / "without", overrides=[override, "match.scores={soft: 1.0}"])


def test_candidates_of_another_reading_have_no_computed_scores(tmp_path: Path) -> None:
    new = load_recipe(
        {"input": {"path": "a.conll"}, "targets": ["spa_Latn"]}, [*LIKELIHOOD, "match.candidates=window+tagger"]
    )
    refuse_other_candidates(fingerprint(new, {}, {}, {}), new)
    old = {key: value for key, value in fingerprint(new, {}, {}, {}).items() if key != TAGGER_CANDIDATES}
    with pytest.raises(RecipeError, match="likelihood was computed for the old ones; project anew"):
        refuse_other_candidates(old, new)
    for harmless in (["match.candidates=window"], ["match.scores={soft: 1.0}"]):
        refuse_other_candidates(old, load_recipe(new.model_dump(mode="json"), harmless))


def test_a_tagger_of_other_labels_is_refused(tmp_path: Path) -> None:
    source = make_run(
        tmp_path / "source",
        ["target_tag={engine: hf, model: x, labels: {LOC: LOC, MISC: null}}"],
        {"spa_Latn": ROWS["spa_Latn"][:3]},
    )
    with pytest.raises(RecipeError, match=r"^target_tag\.labels: the tagger's labels \(LOC\) are none of this run's"):
        rematch(source, tmp_path / "new", overrides=["match.scores={soft: 1.0, tagger: 0.5}"])
    assert not (tmp_path / "new").exists()
    rematch(source, tmp_path / "spans", overrides=["match.scores={soft: 1.0, tagger_spans: 0.5}"])


def test_a_tagger_of_other_labels_is_refused_before_the_run_is_recorded(tmp_path: Path) -> None:
    """Else the map that the message asks for would be another run's, which the folder refuses."""
    (tmp_path / "a.conll").write_text("Al B-PER\n")
    section = {"input": {"path": str(tmp_path / "a.conll")}, "targets": ["spa_Latn"]}
    tagger = "target_tag={engine: hf, model: x, labels: {P: %s}}"
    folder = RunFolder(str(tmp_path / "run"))
    wrong, right = (load_recipe(section, [tagger % label, "match.scores={tagger: 1.0}"]) for label in ("LOC", "PER"))
    with pytest.raises(RecipeError, match=r"^target_tag\.labels: the tagger's labels \(LOC\) are none"):
        project._index(folder, Begun(wrong, {}), InlineExecutor(wrong), None, False)
    assert not folder.is_run()
    project._index(folder, Begun(right, {}), InlineExecutor(right), None, False)
    assert folder.is_run()
