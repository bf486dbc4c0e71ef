"""The second matching and rematching, on synthetic parts, with tasks that run here one by one: no Ray, no model."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from xner_ray import engine, inspecting, making, refining, storage, write
from xner_ray.deriving import rematch
from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.folder import RunFolder
from xner_ray.links import METHODS
from xner_ray.prior import LEAST_ROWS
from xner_ray.read.index import Index
from xner_ray.read.units import Unit, unit_name
from xner_ray.recipe import Recipe
from xner_ray.recipe_file import load_recipe
from xner_ray.schema import row_schema, table_from_rows

Row = dict[str, Any]
SOFT = ["match.scores={soft: 1.0}", "match.min_score=0.6"]
NONE = [*SOFT, "match.prior=none"]
ITERMAX, MWMF = (1 << METHODS.index(name) for name in ("itermax", "mwmf"))


def _link(source: int, target: int, p: float = 1.0, methods: int = ITERMAX) -> Row:
    return {"source": source, "target": target, "forward": p, "backward": p, "cosine": 0.9, "methods": methods}


def _row(source: str, target: str, start: int, links: list[Row], gold: int = 0, **cells: Any) -> Row:
    """The last words of the source from `start` on are an entity; the words of the target from `gold` on are gold."""
    row: Row = {"source_tokens": source.split(), "tokens": target.split(), "links": links}
    row["source_spans"] = [{"start": start, "end": len(row["source_tokens"]), "label": "PER", "score": 1.0}]
    row["gold_spans"] = [{"start": gold, "end": len(row["tokens"]), "label": "PER"}]
    return {**row, **cells}


def _rows(n: int) -> list[Row]:
    """`of the` and `de` are frequent. Entities of three rows: found at once, by the second matching alone, no more."""
    rows = [_row(f"of the Bob{i % 7}", f"de Bob{i}", 2, [_link(2, 1)], gold=1) for i in range(n - 4)]
    rows.insert(3, _row("of the Rhine", "Rin", 0, [_link(2, 0)]))  # 2/4 without a prior, 2/2.2 with one
    rows.insert(5, _row("the Y", "de Ypsilon", 0, [_link(0, 0), _link(1, 1, 0.3)]))  # mostly two frequent words
    rows.insert(7, _row("the Ruhr", "de Ruhr", 0, [_link(0, 0, 0.4), _link(1, 1)], gold=1))
    rows.append({"status": "rejected", "reason": "illegal_tag", "detail": "x"})
    return rows


ROWS = {"spa_Latn": _rows(LEAST_ROWS + 14), "swh_Latn": _rows(LEAST_ROWS - 20)}
SPANISH = {"spa_Latn": ROWS["spa_Latn"]}


def _make(path: Path, overrides: Sequence[str] = (), rows: dict[str, list[Row]] = ROWS, unit_rows: int = 32) -> Path:
    """A run with all its parts, as the first matching leaves them; not sealed."""
    recipe = _recipe(list(rows), overrides)
    folder = RunFolder(str(path))
    units = []
    for lang, own in rows.items():
        for start in range(0, len(own), unit_rows):
            stop = min(len(own), start + unit_rows)
            name = unit_name(lang, start)
            units.append(Unit(name, lang, "train", start, stop, None, (), (), (), 0))
            cells = [{"row": n, "id": f"s{n}", "lang": lang, **own[n]} for n in range(start, stop)]
            raw, part = (folder.path("_run", "parts", attempt, f"{name}.parquet") for attempt in ("0000", "0001"))
            stages = {"align": {"rows": len(cells), "seconds": 1.0, "tokens": 5, "rejects": {}}}
            write.write_part(raw, table_from_rows(cells, row_schema()), {"stages": stages})
            refining.match_parts([(raw, part)], recipe, ["PER"])
    keys = {f"parallel {lang} /nowhere/{lang}": "3-4" for lang in rows}
    folder.record(recipe, {"input file a": "1-2", "align.method": recipe.align.method, **keys})
    sizes, sink = {lang: len(own) for lang, own in rows.items()}, io.BytesIO()
    pq.write_table(Index(units, ["PER"], {}, {}, sizes, sizes, 0, {}, {}, [], unit_rows).to_table(), sink)
    storage.publish(folder.units_path, sink.getvalue())
    return path


def _recipe(langs: list[str], overrides: Sequence[str] = ()) -> Recipe:
    section = {"path": "/nowhere/a.conll", "labels": {"keep": ["PER"]}, "parallel": {x: f"/nowhere/{x}" for x in langs}}
    return load_recipe({"input": section, "targets": langs}, overrides)


def _serial(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [function(*call) for call in zip(*arguments, strict=True)]


@pytest.fixture(autouse=True)
def serial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of commands run here, one after the other."""
    monkeypatch.setattr(engine, "map_tasks", _serial)
    monkeypatch.setattr(engine, "cluster", lambda _: nullcontext())


def _digests(run: Path) -> dict[str, Any]:
    """All that a run publishes, without times."""
    files = [*run.glob("data/*/*"), *run.glob("rejects/*/*"), run / "README.md"]
    found: dict[str, Any] = {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    report, sealed = (json.loads((run / name).read_text()) for name in ("report.json", "_run/SEALED"))
    assert all(found[entry["file"]] == entry["sha256"] for entry in sealed["files"])
    for counters in (report, *report["stages"].values()):
        counters.update(seconds=None, model_seconds=None, rows_per_second=None)
    return {**found, "report": report, "sealed": sealed}


class Killed(BaseException):
    pass


def _kills(monkeypatch: pytest.MonkeyPatch, command: Callable[[], Any]) -> Iterator[int]:
    """Run `command` again and again, killed just before its n-th change of a file, until it comes through."""
    for n in count():
        calls = count(-n)

        def change(real: Callable[..., None], *args: Any, calls: Iterator[int] = calls) -> None:
            if next(calls) >= 0:
                raise Killed
            real(*args)

        with monkeypatch.context() as patch:
            for name in ("publish", "delete"):
                patch.setattr(storage, name, partial(change, getattr(storage, name)))
            try:
                return command()
            except Killed:
                pass
        yield n


def _times(run: Path, below: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.glob(below)}


@pytest.mark.slow
def test_a_kill_at_any_moment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refining, "_FAN_IN", 2)
    source, new = _make(tmp_path / "source", rows=SPANISH, unit_rows=24), tmp_path / "new"
    publish, written = storage.publish, []
    with monkeypatch.context() as patch:
        patch.setattr(storage, "publish", lambda *file: written.append(file) or publish(*file))
        rematch(source, new)
    expected = _digests(new)
    for n in range(len(written)):
        shutil.rmtree(new)
        for file in written[:n]:
            publish(*file)
        done = {path: time for path, time in _times(new, "_run/*/0001/*").items() if "-0-" not in path.name}
        rematch(source, new)
        assert _digests(new) == expected, f"killed before {written[n][0]}"
        assert done.items() <= _times(new, "_run/*/*/*").items(), "made again"
    # The same with --fresh, of a finished run and then of torn ones
    assert len(list(_kills(monkeypatch, lambda: rematch(source, new, fresh=True)))) > len(written) > 15
    assert _digests(new) == expected


def test_order_and_grouping_of_tasks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _make(tmp_path / "source", unit_rows=16)
    rematch(source, tmp_path / "one")

    def twice_backwards(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        calls = list(zip(*arguments, strict=True))
        for call in reversed(calls):
            function(*call)
        return [function(*call) for call in calls]

    monkeypatch.setattr(refining, "_TASKS", 2)  # several units a task
    monkeypatch.setattr(refining, "_FAN_IN", 2)
    monkeypatch.setattr(engine, "map_tasks", twice_backwards)
    rematch(source, tmp_path / "other")
    assert _digests(tmp_path / "other") == _digests(tmp_path / "one")


def test_a_tree_of_merges_equals_one_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forms that stand in one row of every part are frequent in the whole: nothing may be left out on the way."""
    folder = RunFolder(str(_make(tmp_path / "run", unit_rows=5)))
    parts, units = folder.parts(), inspecting.read_index(folder).units
    steps: list[int] = []

    def map_tasks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        steps.append(len(arguments[0]))
        return _serial(function, *arguments)

    def priors() -> dict[str, bytes]:
        storage.delete(folder.path("_run", "priors"))
        refining.make_priors(folder, units, parts, map_tasks)
        return {lang: storage.read_bytes(f"{folder.priors_folder}/{lang}.parquet") for lang in ROWS}

    whole = priors()
    monkeypatch.setattr(refining, "_FAN_IN", 3)
    assert priors() == whole
    assert steps == [2, 5 + 2, 2 + 1, 1]  # of 13 and 6 parts, both languages in every step
    units = units[::-1]
    assert priors() == whole
    table = pq.read_table(pa.BufferReader(whole["spa_Latn"])).to_pylist()
    forms = {(row["kind"], row["form"]): row["rows"] for row in table}
    assert ("target", "rin") not in forms  # of one row
    assert forms["target", "de"] == len(ROWS["spa_Latn"]) - 2
    assert forms["source", "bob6"] == sum(n % 7 == 6 for n in range(len(ROWS["spa_Latn"]) - 4))


def test_the_driver_reads_no_file_for_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, reads = RunFolder(str(_make(tmp_path / "run", rows=SPANISH))), []
    unit, read = inspecting.read_index(folder).units[0], storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda path: reads.append(path) or read(path))
    units = [replace(unit, name=f"u{n}") for n in range(100)]
    refining.refine_units(folder, units, {unit.name: "" for unit in units}, folder.recipe(), ["PER"], lambda *_: [])
    assert len(reads) < 10


def test_a_language_of_few_rows_has_no_prior_and_says_so(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    rows = {**ROWS, "deu_Latn": ROWS["spa_Latn"][-1:] * 3}  # all rejected
    report = rematch(_make(tmp_path / "source", rows=rows), tmp_path / "new", console=console)
    assert report["rows"] == {"read": 64 + 30 + 3, "emitted": 63 + 29, "rejected": 5}
    assert [tuple(prior.values()) for prior in report["priors"].values()] == [(63, True), (29, False), (0, False)]
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"swh_Latn: no prior from 29 rows (it takes {LEAST_ROWS}); matched without" in said
    parts, refined = RunFolder(str(tmp_path / "new")).parts(), RunFolder(str(tmp_path / "new")).refined()
    same = {name: write.read_part(parts[name]).equals(write.read_part(refined[name])) for name in parts}
    assert [same[f"{lang}-000000000000"] for lang in rows] == [False, True, True]


def test_rows_are_rejected_as_incomplete_by_the_last_matching_alone(tmp_path: Path) -> None:
    """With a prior the Rhine finds its place and Y loses it; without one it is the other way round."""
    runs = {name: _make(tmp_path / name, [*NONE, f"output.incomplete={name}"]) for name in ("reject", "keep")}
    for name, run in runs.items():
        new, total = tmp_path / f"new-{name}", sum(map(len, ROWS.values()))
        report = rematch(run, new, overrides=["match.prior=auto", "output.incomplete=reject"])
        (file,), (rejects,) = new.glob("data/spa_Latn/*"), new.glob("rejects/spa_Latn/*")
        tags = {" ".join(row["tokens"]): row["ner_tags"] for row in write.read_part(str(file)).to_pylist()}
        lost = write.read_part(str(rejects)).to_pylist()[0]
        assert (tags["Rin"], "de Ypsilon" in tags) == ([1], False)
        assert (lost["tokens"], lost["reason"], lost["spans"]) == (["de", "Ypsilon"], "incomplete", [])
        assert lost["ner_tags"] is None, "tags of the first matching"
        # Counters are of the last matching, every row once
        assert report["rows"] == {"read": total, "emitted": total - 4, "rejected": 4}
        assert [of["rejects"] for of in report["languages"].values()] == [{"illegal_tag": 1, "incomplete": 1}] * 2
        of_stage = {stage: counters["rows"] for stage, counters in report["stages"].items()}
        assert of_stage == {"align": total, "match": total - 2, "refine": total - 2}
        assert (report["stages"]["align"]["tokens"], report["priors"]["spa_Latn"]["rows"]) == (5 * 3, 63)
        assert report["entities"]["source"] == report["entities"]["projected"] == total - 4
    report = rematch(runs["reject"], tmp_path / "again")
    assert report["rejects"] == {"illegal_tag": 2, "incomplete": 2}
    (rejects,) = (tmp_path / "again").glob("rejects/spa_Latn/*")
    assert write.read_part(str(rejects), ["tokens"]).to_pylist()[0] == {"tokens": ["Rin"]}
    assert "refine" not in report["stages"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([*NONE, "output.incomplete=reject"], [*SOFT, "output.incomplete=keep"]),
        (["match.solver=heuristic"], [*SOFT, "output.incomplete=reject"]),
        (SOFT, ["align.method=argmax", "match.scores={soft: 1.0, align: 0.1}"]),
    ],
)
def test_rematching_equals_a_run_made_so_and_back(before: list[str], after: list[str], tmp_path: Path) -> None:
    default = _recipe(["spa_Latn"]).model_dump(mode="json")
    reset = [f"{name}={json.dumps(default[name])}" for name in ("match", "output")] + ["align.method=itermax"]
    one, other = (_make(tmp_path / name, given, SPANISH) for name, given in (("one", before), ("other", after)))
    rematch(other, tmp_path / "other2")
    rematch(one, tmp_path / "new", overrides=[*reset, *after])
    expected = _digests(tmp_path / "other2")
    assert _digests(tmp_path / "new") == expected
    made = RunFolder(str(tmp_path / "new"))
    assert (made.recipe(), made.keys()["input file a"]) == (RunFolder(str(other)).recipe(), "1-2")
    rematch(tmp_path / "new", tmp_path / "back", overrides=[*reset, *before])
    rematch(one, tmp_path / "one2")
    assert _digests(tmp_path / "back") == _digests(tmp_path / "one2")
    assert _digests(tmp_path / "back")["sealed"] != expected["sealed"], "the settings change nothing"


def test_links_of_mwmf_are_gone_where_it_is_not_asked_for(tmp_path: Path) -> None:
    """A run with another method would not have stored the cells that mwmf alone links: they are part of no score."""
    plain, extra = [_link(2, 0)], [_link(1, 0, 0.04, MWMF), _link(2, 0, 1.0, ITERMAX | MWMF)]
    for name, links, method in (("plain", plain, "itermax"), ("mwmf", extra, "mwmf")):
        rows = [_row("of the Rhine", "Rin", 1, links), _row("a Po", "Po", 1, [], gold_spans=None)] * 2
        rows.append(ROWS["spa_Latn"][-1])
        source = _make(tmp_path / name, [*NONE, f"align.method={method}"], {"spa_Latn": rows})
        rematch(source, tmp_path / f"new-{name}", overrides=["align.method=itermax"])
    rematch(source, tmp_path / "kept")
    assert _digests(tmp_path / "new-mwmf") == _digests(tmp_path / "new-plain")
    assert _digests(tmp_path / "kept")["sealed"] != _digests(tmp_path / "new-plain")["sealed"]
    with pytest.raises(RecipeError, match=r"align\.method is mwmf, which the links of this run do not have"):
        rematch(tmp_path / "new-mwmf", tmp_path / "back", overrides=["align.method=mwmf"])


def test_a_rematched_run_grows_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large, new = _make(tmp_path / "small", rows=SPANISH), _make(tmp_path / "large"), tmp_path / "new"
    rematch(small, new)
    rematch(large, tmp_path / "whole")
    kept = _times(new, "_run/*/0001/spa_Latn*.parquet")
    assert len(kept) == 5  # 2 parts, their prior, 2 refined parts
    for n in _kills(monkeypatch, lambda: rematch(large, new)):
        assert n == 0 or RunFolder(str(new)).sealed() is None, "sealed while further languages are made"
    assert _digests(new) == _digests(tmp_path / "whole")
    assert RunFolder(str(new)).recipe().languages == list(ROWS)
    assert _times(new, "_run/*/0001/spa_Latn*.parquet") == kept
    with pytest.raises(RunFolderError, match="targets: swh_Latn there, missing now"):
        rematch(small, new)


def test_other_units_of_the_same_recipe_are_refused(tmp_path: Path) -> None:
    """Equal names of units do not mean equal rows."""
    rematch(_make(tmp_path / "source"), tmp_path / "new")
    other = _make(tmp_path / "other", unit_rows=40)
    os.unlink(tmp_path / "new/_run/SEALED")
    with pytest.raises(RunFolderError, match="holds the same recipe in other units"):
        rematch(other, tmp_path / "new")


@pytest.mark.parametrize("name", ["source", "source/.", "link", "file"])
def test_a_run_is_never_rematched_onto_itself(name: str, tmp_path: Path) -> None:
    source = _make(tmp_path / "source")
    os.symlink(source, tmp_path / "link")
    before = _times(source, "**/*")
    with pytest.raises(RunFolderError, match="rematch fills another folder"):
        rematch(source, f"file://{source}" if name == "file" else tmp_path / name, fresh=True)
    assert _times(source, "**/*") == before


def test_an_unfinished_source_is_refused(tmp_path: Path) -> None:
    source = _make(tmp_path / "source")
    folder = RunFolder(str(source))
    folder.record(_recipe([*ROWS, "deu_Latn"]), folder.keys())  # killed before its units were listed
    with pytest.raises(RunFolderError, match="the units of deu_Latn are not listed yet; finish the run first"):
        rematch(source, tmp_path / "new")
    os.unlink(next(iter(RunFolder(str(source)).parts().values())))
    folder.record(_recipe(list(ROWS)), folder.keys())
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
    allowed = r"allowed: match\.\*, output\.\*, align\.method, engine\.address$"
    with pytest.raises(RecipeError, match=rf"^rematch cannot set {key}; {allowed}"):
        rematch(
            _make(tmp_path / "source", rows={"spa_Latn": ROWS["spa_Latn"][:1]}),
            tmp_path / "new",
            overrides=["match.max_words=3", override],
        )


def test_rematch_does_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder here that is named as the run's model is no other model."""
    source = _make(tmp_path / "source", rows={"spa_Latn": ROWS["spa_Latn"][:3]})
    os.mkdir(tmp_path / "builtin")
    monkeypatch.chdir(tmp_path)
    rematch(source, tmp_path / "new", overrides=["engine.address=auto"])
    made = RunFolder(str(tmp_path / "new")).recipe()
    assert (made.align.encoder, made.engine.address) == ("builtin", "auto")


def test_what_a_dead_driver_still_writes_after_fresh_is_not_looked_at(tmp_path: Path) -> None:
    folder = RunFolder(str(_make(tmp_path / "run", rows=SPANISH)))
    folder.next_attempt()
    late, late_prior = f"{folder.refined_folder}/a.parquet", f"{folder.priors_folder}/spa_Latn.parquet"
    recipe = folder.recipe()
    folder.discard()
    folder.record(recipe, {})
    storage.publish(folder.units_path, b"listed")
    storage.publish(late, b"late, and long enough")
    storage.publish(f"{folder.refined_folder}/b.parquet", b"now, and long enough")
    assert list(folder.refined()) == ["b"]
    assert f"{folder.priors_folder}/spa_Latn.parquet" != late_prior


def test_a_run_between_both_matchings_can_be_looked_at(tmp_path: Path) -> None:
    rematch(_make(tmp_path / "source"), new := tmp_path / "new")
    os.unlink(new / "_run/SEALED")
    os.unlink(new / "_run/refined/0001/swh_Latn-000000000000.parquet")
    console = Console(file=io.StringIO(), width=150)
    console.print(inspecting.status(new))
    for lang in ROWS:
        console.print(inspecting.explain(new, "s3", lang))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "not sealed" in said and "3 done, 0 left" in said and "second matching: 2 done, 1 left" in said
    assert said.count("target  Rin") == 2 and said.count("target  Rin[PER]") == 1
    spa, swh = sorted(inspecting.evaluate(new), key=lambda found: found.lang)
    assert (spa.overall.gold, swh.overall.gold) == tuple(len(rows) - 1 for rows in ROWS.values())
    with pytest.raises(RunFolderError, match="not sealed yet"):
        inspecting.export(new)


NEW_COLUMNS = ["bridge_tokens", "bridge_spans", "target_tags", "evidence"]


def test_a_run_from_before_its_newest_columns_can_be_used(tmp_path: Path) -> None:
    new, old = _make(tmp_path / "new", rows=SPANISH), _make(tmp_path / "old", rows=SPANISH)
    rematch(new, tmp_path / "of_new")
    for path in RunFolder(str(old)).parts().values():
        counters = write.part_counters(path)
        write.write_part(path, write.read_part(path).drop_columns(NEW_COLUMNS), counters)
    rematch(old, tmp_path / "of_old")
    assert _digests(tmp_path / "of_old") == _digests(tmp_path / "of_new")
    console = Console(file=io.StringIO(), width=100)
    console.print(inspecting.explain(old, "s3"))
    assert "Rhine" in console.file.getvalue()  # type: ignore[attr-defined]


def _given(path: Path, method: str) -> Path:
    """A run of given links: they are of every method."""
    every = (1 << len(METHODS)) - 1
    rows = [{**row, "links": [{**link, "methods": every} for link in row["links"]]} for row in SPANISH["spa_Latn"][:-1]]
    given = ["align.backend=provided", "input.links=/nowhere/links", f"align.method={method}"]
    return _make(path, [*NONE, *given], {"spa_Latn": rows})


def test_given_links_stay_of_every_method(tmp_path: Path) -> None:
    """The fingerprint of such a run has no method, so no method may change a row."""
    for method in ("itermax", "mwmf"):
        rematch(_given(tmp_path / method, method), tmp_path / f"new-{method}")
    assert _digests(tmp_path / "new-itermax")["sealed"] == _digests(tmp_path / "new-mwmf")["sealed"]
    rematch(tmp_path / "itermax", tmp_path / "other", overrides=["align.method=mwmf"])
    assert _digests(tmp_path / "other")["sealed"] == _digests(tmp_path / "new-mwmf")["sealed"]


LIKELIHOOD = ["likelihood.engine=nllb", "match.prior=none", "match.scores={soft: 1.0, likelihood: 0.5}"]


@pytest.mark.parametrize(
    "override", ["match.scores.likelihood=2", "match.candidates=ngram", "match.min_score=0.1", "align.method=argmax"]
)
def test_likelihood_is_not_rematched_where_other_cells_could_win(override: str, tmp_path: Path) -> None:
    """A run that is made so computes other cells, so the rows would differ under one fingerprint."""
    source = _make(tmp_path / "source", LIKELIHOOD, {"spa_Latn": ROWS["spa_Latn"][:3]})
    with pytest.raises(RecipeError, match=rf"^rematch cannot set {override.partition('=')[0]}: the score likelihood"):
        rematch(source, tmp_path / "new", overrides=[override])
    assert not (tmp_path / "new").exists()
    rematch(source, tmp_path / "same", overrides=["match.solver=greedy", "match.prior=none", "match.workers=1"])
    rematch(source, tmp_path / "without", overrides=[override, "match.scores={soft: 1.0}"])


def test_a_tagger_of_other_labels_is_refused(tmp_path: Path) -> None:
    source = _make(
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
    with pytest.raises(RecipeError, match=r"^target_tag\.labels: the tagger's labels \(LOC\) are none"):
        making._index(folder, load_recipe(section, [tagger % "LOC", "match.scores={tagger: 1.0}"]), {})
    assert not folder.is_run()
    making._index(folder, load_recipe(section, [tagger % "PER", "match.scores={tagger: 1.0}"]), {})
    assert folder.is_run()
