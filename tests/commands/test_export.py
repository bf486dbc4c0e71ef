"""The command `export` over a sealed run: which files, in how much memory, and that readers take them back."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from exported import PLAIN, ROW, row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import read_all, to_test
from run_folders import finished

import xner_ray
from xner_ray.commands import export as command
from xner_ray.commands.inspect import read_index
from xner_ray.data.tokens import mend
from xner_ray.data.words import join
from xner_ray.errors import InputError
from xner_ray.run import publish
from xner_ray.run.counters import Report
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.write import conll, jsonl, spacy

LABELS = ("PER", "LOC")
OTHERS = {"source_tokens": ["x"], "source_spans": [], "unprojected": [], "flags": [], "links": [], "complete": True}


def _sealed(path: Path, rows: Sequence[dict[str, Any]], **options: Any) -> Path:
    """A sealed run that has published these rows, and a report with its labels."""
    own = [{**one, **OTHERS} for one in rows]
    finished(path, {"spa_Latn": own}, **options)
    folder = RunFolder(str(path))
    planned = publish.plan_files(
        read_index(folder).units, folder.parts(), LABELS, rows_per_file=4, split_incomplete=False
    )
    counted = {"read": len(rows), "emitted": len(rows), "rejected": 0}
    entities = {"source": 0, "projected": 0, "unprojected": {}, "in_rejected_rows": 0}
    said = {"rows": counted, "rejects": {}, "entities": entities, "languages": {}, "repaired_tags": 0, "units": 1}
    said |= {"labels": {"kept": list(LABELS), "dropped": {}}}
    said |= {"seconds": 0.0, "reject_rate": 0.0, "max_reject_rate": 0.0}
    publish.seal(folder.root, planned, {"report.json": Report.from_dict(said).dump()})
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [ROW, PLAIN, *(row(id=f"s{number}", spans=((1, 2, "PER"),)) for number in range(9))]
    return _sealed(tmp_path_factory.mktemp("export") / "run", rows, unit_rows=3)


@pytest.mark.parametrize(
    ("to", "names"),
    [
        ("conll", ["spa_Latn.train.conll"]),
        ("jsonl", ["spa_Latn.train.jsonl"]),
        ("label-studio", ["spa_Latn.train.label-studio.json", "spa_Latn.config.xml"]),
        ("doccano", ["spa_Latn.train.doccano.jsonl"]),
        ("prodigy", ["spa_Latn.train.prodigy.jsonl"]),
        pytest.param("spacy", ["spa_Latn.train.spacy"], marks=pytest.mark.slow),
    ],
)
def test_each_format_has_a_file_per_language_and_split(run: Path, tmp_path: Path, to: Any, names: list[str]) -> None:
    written = xner_ray.export(run, to=to, output=tmp_path)
    assert written == [str(tmp_path / name) for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert b"s8" in Path(written[0]).read_bytes() or to in ("conll", "spacy")
    if to == "label-studio":
        assert len(json.loads(Path(written[0]).read_text("utf-8"))) == 11
        assert '<Label value="LOC"/>' in Path(written[1]).read_text("utf-8")


@pytest.mark.slow
def test_many_sentences_make_several_files_for_spacy(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from spacy.tokens import DocBin

    write = spacy.write
    monkeypatch.setattr(spacy, "write", lambda rows: write(rows, docs_a_file=5))
    written = xner_ray.export(run, to="spacy", output=tmp_path)
    assert [Path(path).name for path in written] == [f"spa_Latn.train{n}.spacy" for n in ("", "-00001", "-00002")]
    assert [len(DocBin().from_disk(path)) for path in written] == [5, 5, 1]


def test_an_unknown_format_is_refused(run: Path) -> None:
    with pytest.raises(InputError, match="export: 'conl' is no format; did you mean 'conll'"):
        xner_ray.export(run, to="conl")  # type: ignore[arg-type]


def test_a_row_that_a_format_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    bad = _sealed(tmp_path / "run", [PLAIN, row("a b", ["a b"])])
    old = tmp_path / "out" / "spa_Latn.train.conll"
    storage.publish(str(old), b"old")
    with pytest.raises(InputError, match="holds white space"):
        xner_ray.export(bad, output=tmp_path / "out")
    assert old.read_bytes() == b"old" and list(old.parent.iterdir()) == [old]


def test_rows_become_python_objects_some_at_a_time(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is written while it is read: a chunk is taken before the rows of the next batch exist."""
    monkeypatch.setattr(command, "_ROWS_AT_ONCE", 2)
    batches: list[int] = []
    monkeypatch.setattr(command.storage, "publish_stream", lambda path, chunks: taken(chunks))
    read = command.part_files.read_part

    class Counted:
        """A table that notes when a batch of it becomes Python objects."""

        def __init__(self, table: Any) -> None:
            self.table, self.schema = table, table.schema

        def select(self, names: list[str]) -> "Counted":
            return Counted(self.table.select(names))

        def to_batches(self, max_chunksize: int) -> Any:
            for batch in self.table.to_batches(max_chunksize=max_chunksize):
                batches.append(batch.num_rows)
                yield batch

    def taken(chunks: Any) -> None:
        for number, _ in enumerate(chunks):
            assert number < sum(batches) <= number + 2  # no more than the batch that the chunk is of
        assert sum(batches) == 11

    monkeypatch.setattr(command.part_files, "read_part", lambda path: Counted(read(path)))
    xner_ray.export(run, to="doccano")


def _read(path: str, **given: Any) -> list[tuple[Any, ...]]:
    """The rows that a run of direction test reads of a file: id, words, entities by word, text."""
    table = read_all(to_test(path, input=given))
    assert table.column("reason").null_count == table.num_rows, table.column("detail").to_pylist()
    names = ("id", "tokens", "gold_spans", "text")
    return [tuple(one[name] for name in names) for one in table.select(names).to_pylist()]


def _expected(rows: Sequence[dict[str, Any]], *, text: bool) -> list[tuple[Any, ...]]:
    made = []
    for one in rows:
        spans = [{key: span[key] for key in ("start", "end", "label")} for span in one["spans"]]
        made.append((one["id"], one["tokens"], spans, one["text"] if text else join(one["tokens"], "spa_Latn")[0]))
    return made


CHANGED = row(spans=((1, 2, "ORG"), (3, 4, "MISC")))  # of ROW one entity is shorter and has another label, one is new


def _change_lines(path: Path) -> None:
    """Correct CoNLL in an editor of text."""
    text = path.read_text("utf-8")
    for old, new in (("B-PER\nMaría\tI-PER\nva\tO", "B-ORG\nMaría\tO\nva\tB-MISC"), ("B-LOC", "O")):
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, "utf-8")


def _change_jsonl(path: Path) -> None:
    first, *others = path.read_text("utf-8").splitlines()
    spans = [{"start": 5, "end": 8, "label": "ORG"}, {"start": 16, "end": 18, "label": "MISC"}]
    path.write_text("\n".join([json.dumps({**json.loads(first), "spans": spans}), *others]), "utf-8")


def _change_doccano(path: Path) -> None:
    """Write what doccano exports of the corrected project: its editor counts UTF-16."""
    first, *others = map(json.loads, path.read_text("utf-8").splitlines())
    first["label"] = [[8, 11, "ORG"], [19, 21, "MISC"]]
    lines = [json.dumps({**one, "Comments": []}, ensure_ascii=False) for one in (first, *others)]
    path.write_text("\n".join(lines), "utf-8")


def _change_label_studio(path: Path) -> None:
    """Write what Label Studio exports of the corrected project: a number and much else beside our data."""
    tasks = json.loads(path.read_text("utf-8"))
    person, place = tasks[0]["annotations"][0]["result"]
    person["value"] = {"start": 5, "end": 8, "text": "Ana", "labels": ["ORG"]}
    place["value"] = {"start": 16, "end": 18, "text": "va", "labels": ["MISC"]}
    for number, task in enumerate(tasks, start=1):
        task |= {"id": 40 + number, "predictions": [], "meta": {}, "project": 3, "total_annotations": 1}
        task["annotations"][0] |= {"id": number, "was_cancelled": False, "ground_truth": False, "lead_time": 2.5}
    path.write_text(json.dumps(tasks, ensure_ascii=False), "utf-8")


def _change_spacy(path: Path) -> None:
    from spacy.tokens import DocBin, Span
    from spacy.vocab import Vocab

    docs = list(DocBin().from_disk(path).get_docs(Vocab()))
    words = [token.text for token in docs[0]]
    at = [words.index("Ana"), words.index("va")]
    docs[0].set_ents([Span(docs[0], at[0], at[0] + 1, label="ORG"), Span(docs[0], at[1], at[1] + 1, label="MISC")])
    DocBin(attrs=["ENT_IOB", "ENT_TYPE"], store_user_data=True, docs=docs).to_disk(path)


@pytest.mark.parametrize(
    ("to", "change"),
    [
        ("conll", _change_lines),
        ("jsonl", _change_jsonl),
        ("prodigy", _change_jsonl),
        ("doccano", _change_doccano),
        ("label-studio", _change_label_studio),
        pytest.param("spacy", _change_spacy, marks=pytest.mark.slow),
    ],
)
def test_what_is_exported_and_corrected_is_read_as_gold(
    tmp_path: Path, to: Any, change: Callable[[Path], None]
) -> None:
    """Words, entities, labels and ids, and the text where the format has it: the same, but for the correction."""
    others = [PLAIN, row(spans=((0, 2, "PER"), (2, 3, "LOC"), (3, 8, "PER")), id="all of it")]
    path, *_ = xner_ray.export(_sealed(tmp_path / "run", [ROW, *others]), to=to, output=tmp_path, ids=True)
    assert _read(path) == _expected([ROW, *others], text=to != "conll")
    change(Path(path))
    assert _read(path) == _expected([CHANGED, *others], text=to != "conll")


# Letters that change what a reader sees: comment signs, marks of CoNLL, quotes, several scripts, an emoji in four parts
_ODD_WORDS = (
    "#",
    "# id",
    "O",
    "B-PER",
    "-",
    '"',
    "\\",
    "{",
    "😀",
    "👨🏻\u200d🚒",
    "é",
    "e\u0301",
    "東京",
    "क्\u200dष",
    "'s",
)
_WORDS = st.one_of(
    st.sampled_from(_ODD_WORDS),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=6),
).map(lambda word: "".join(word.split()))
_WORDS = _WORDS.filter(lambda word: mend(["a", word]) is None)  # those that reading leaves as they are


@st.composite
def _rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for number in range(draw(st.integers(1, 3))):
        tokens = draw(st.lists(_WORDS, min_size=1, max_size=6))
        cuts = draw(st.lists(st.integers(0, len(tokens)), unique=True, max_size=4).map(sorted))
        labels = draw(st.lists(st.sampled_from(LABELS), min_size=4, max_size=4))
        spans = tuple(zip(cuts[::2], cuts[1::2], labels, strict=False))
        rows.append(row(" ".join(tokens), tokens, spans, id=f"r{number}"))
    return rows


@pytest.mark.slow
@given(_rows())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_words_come_back_from_lines(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    for name, lines in (("a.conll", conll.write(rows, ids=True)), ("a.jsonl", jsonl.write(rows))):
        (tmp_path / name).write_bytes("".join(lines).encode())
        assert _read(str(tmp_path / name)) == _expected(rows, text=name == "a.jsonl"), name
