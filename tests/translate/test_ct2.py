"""The CTranslate2 engine against the transformers engine, on the tiny model of NLLB's own architecture."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_nllb import CODES, FOLDER, generate

from xner_ray.errors import FatalError, MissingExtraError, Reason, RecipeError
from xner_ray.models.hub import tree_hash
from xner_ray.recipe.sections import Translate
from xner_ray.translate import ct2
from xner_ray.translate.base import Translation
from xner_ray.translate.ct2 import Ct2Translator, compute_type, converted_folder, resolve
from xner_ray.translate.nllb import NllbTranslator

pytest.importorskip("ctranslate2", reason="needs the extra 'ctranslate2'")

DIRECTIONS = [("en", "sw"), ("en", "es"), ("sw", "en"), ("es", "en")]
Results = list[Translation | tuple[Reason, str]]


def section(**options: Any) -> Translate:
    dtype = options.pop("dtype", "auto")  # int8 is no word of every engine
    return Translate.model_validate({"model": "tiny-nllb", **options}).model_copy(update={"dtype": dtype})


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One cache for the module, and one thread: neither engine may profit from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XNER_RAY_CACHE", str(folder))
        yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def translator(cache: Path) -> Ct2Translator:
    return Ct2Translator(section())


def drawn(count: int) -> list[tuple[str, str, list[str]]]:
    """`count` sentences that the model was not trained on, the directions taking turns."""
    sentences = generate.sentences(count, 5, held_out=True)
    step = len(DIRECTIONS)
    return [
        (CODES[a], CODES[b], [s.sides[a].text for s in islice(sentences, turn, None, step)])
        for turn, (a, b) in enumerate(DIRECTIONS)
    ]


def differing(one: Results, other: Results, score: float) -> int:
    """Number of different texts; scores of equal texts agree to `score`."""
    assert len(one) == len(other)
    count = 0
    for a, b in zip(one, other, strict=True):
        assert isinstance(a, Translation) and isinstance(b, Translation)
        if a.text != b.text:
            count += 1
        else:
            assert a.score == pytest.approx(b.score, abs=score)
    return count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "beams"),
    [(48, 1), (48, 4), pytest.param(1000, 1, marks=pytest.mark.long), pytest.param(200, 4, marks=pytest.mark.long)],
)
def test_text_and_score_equal_those_of_transformers(count: int, beams: int) -> None:
    """Measured: no text differs of 1,000 sentences in each direction, with 1 and with 4 beams."""
    ours, theirs = Ct2Translator(section(beams=beams)), NllbTranslator(section(beams=beams))
    for source, target, texts in drawn(count):
        assert differing(ours.translate(texts, source, target), theirs.translate(texts, source, target), 1e-3) == 0
    assert ours.tokens == theirs.tokens
    assert ours.model_seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("beams", [1, 4])
def test_the_company_of_a_sentence_does_not_change_it(dtype: str, beams: int) -> None:
    whole = Ct2Translator(section(dtype=dtype, beams=beams))
    parts = Ct2Translator(section(dtype=dtype, beams=beams, micro_batch_tokens=300))
    for source, target, texts in drawn(48):
        order = random.Random(1).sample(range(len(texts)), len(texts))
        shuffled = parts.translate([texts[i] for i in order], source, target)
        back = [result for _, result in sorted(zip(order, shuffled, strict=True), key=lambda pair: pair[0])]
        assert differing(whole.translate(texts, source, target), back, 1e-3) == 0


def test_the_limit_of_a_sentence_is_its_own(translator: Ct2Translator) -> None:
    """A micro-batch's limit is that of each of its sentences, whoever shares it."""
    lengths = list(range(1, translator.positions + 1))
    ids = [[0] * length for length in lengths]
    groups = [rows for _, rows in translator._alike(list(range(len(ids))), ids)]
    batches = [batch for rows in groups for batch in translator._micro_batches(rows, ids)]
    assert sorted(index for batch in batches for index in batch) == list(range(len(ids)))
    for batch in batches:
        assert len({translator._limit(lengths[index]) for index in batch}) == 1
        assert len(batch) == 1 or 2 * max(lengths[i] for i in batch) * len(batch) <= translator.micro_batch_tokens
    limits = [translator._limit(length) for length in lengths]
    assert limits == sorted(limits) and limits[-1] == translator.positions - 1
    assert all(limit >= min(3 * length + 32, translator.positions - 1) for length, limit in enumerate(limits, 1))
    loop, long = "zzz zzz zzz zzz", "In Kenya , the Ministry of Agriculture employs 63 people , " * 3
    (alone,) = translator.translate([loop], CODES["en"], CODES["sw"])
    beside, _ = translator.translate([loop, long], CODES["en"], CODES["sw"])
    assert getattr(alone, "text", alone) == getattr(beside, "text", beside)


@pytest.mark.slow
def test_int8_is_nearly_as_good(translator: Ct2Translator) -> None:
    """Measured on 1,000 sentences: 0.7 % of the texts differ from float32's."""
    small = Ct2Translator(section(dtype="int8"))
    count = total = 0
    for source, target, texts in drawn(200):
        count += differing(small.translate(texts, source, target), translator.translate(texts, source, target), 0.1)
        total += len(texts)
    print(f"int8: {count} of {total} texts differ from float32's")
    assert count <= 0.03 * total


@pytest.mark.parametrize("beams", [1, 4])
def test_rejects_have_the_reasons_and_words_of_transformers(beams: int) -> None:
    texts = ["Amina Otieno travelled to Nairobi on Monday .", " ".join(["Nairobi"] * 400), "", "a </s> spa_Latn b"]
    for options in ({}, {"max_new_tokens": 3}, {"max_new_tokens": 1}):
        ours, theirs = (
            engine(section(beams=beams, **options)).translate(texts, CODES["en"], CODES["es"])
            for engine in (Ct2Translator, NllbTranslator)
        )
        for one, other in zip(ours, theirs, strict=True):
            assert getattr(one, "text", one) == getattr(other, "text", other)
        assert isinstance(ours[1], tuple) and ours[1][0] is Reason.SOURCE_TOO_LONG
        assert isinstance(ours[0], tuple) == bool(options)
        assert not options or ours[0][0] is Reason.TRANSLATION_TRUNCATED  # type: ignore[index]


class _Fake:
    """A decoder that gives what it is told to."""

    compute_type = "float16"

    def __init__(self, outcome: Exception | list[str], score: float = -1.0) -> None:
        self.outcome, self.score = outcome, score

    def translate_batch(self, source: list[list[str]], prefix: list[list[str]], **_options: Any) -> list[Any]:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        result = type("Result", (), {"hypotheses": [[*prefix[0], *self.outcome]], "scores": [self.score]})
        return [result] * len(source)


def test_a_translation_without_text_is_a_reject(translator: Ct2Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator, "model", _Fake(["</s>"]))
    (result,) = translator.translate(["a"], CODES["en"], CODES["es"])
    assert result == (Reason.TRANSLATION_EMPTY, "the translator gave no text")


def test_probabilities_that_are_no_numbers_are_named(
    translator: Ct2Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator, "model", _Fake(["a", "</s>"], float("nan")))
    with pytest.raises(ValueError, match=r"no finite numbers in float16; set dtype: float32, or bfloat16"):
        translator.translate(["a"], CODES["en"], CODES["es"])


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("CUDA failed with error out of memory", torch.OutOfMemoryError),
        ("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED", torch.OutOfMemoryError),
        ("Library libcublas.so.12 is not found or cannot be loaded", FatalError),
        ("something else", RuntimeError),
    ],
)
def test_errors_of_the_device_are_told_apart(
    translator: Ct2Translator, monkeypatch: pytest.MonkeyPatch, message: str, kind: type[Exception]
) -> None:
    """Out of memory is the guard's to handle; a missing library must not reject row after row."""
    monkeypatch.setattr(translator, "model", _Fake(RuntimeError(message)))
    with pytest.raises(Exception, match=message.split()[0]) as caught:
        translator.translate(["a"], CODES["en"], CODES["es"])
    assert type(caught.value) is kind


def test_nothing_to_translate(translator: Ct2Translator) -> None:
    assert translator.translate([], CODES["en"], CODES["es"]) == []


def test_resolve_names_what_cannot_work(translator: Ct2Translator, tmp_path: Path) -> None:
    directions = {code: (CODES["en"], code) for code in CODES.values()}
    found, identities = resolve(section(), "translate", directions)
    assert (found, identities["engine"]) == (section(), f"ctranslate2 {metadata.version('ctranslate2')}")
    resolve(section(dtype="int8"), "translate", directions)
    with pytest.raises(RecipeError, match=r"back_translate\.model: tiny-nllb has no language token 'yor_Latn'"):
        resolve(section(), "back_translate", {"yor_Latn": (CODES["en"], "yor_Latn")})
    with pytest.raises(RecipeError, match="no language token 'yor_Latn'"):
        translator.translate(["a"], "eng_Latn", "yor_Latn")
    with pytest.raises(RecipeError, match=r"dtype: .* bfloat16 on a CPU; allowed: auto, float32, int8"):
        resolve(section(dtype="bfloat16"), "translate", {})
    other = tmp_path / "other"
    shutil.copytree(FOLDER, other)
    config = other / "config.json"
    config.write_text(config.read_text().replace('"m2m_100"', '"mbart"'))
    with pytest.raises(RecipeError, match="is of type mbart, but engine ctranslate2 takes m2m_100 alone"):
        resolve(section(model=str(other)), "translate", {})


def test_number_types_depend_on_the_device() -> None:
    assert [compute_type(section(dtype=name)) for name in ("auto", "int8")] == ["float32", "int8_float32"]
    on_gpu = [compute_type(section(dtype=name, gpus=1)) for name in ("auto", "bfloat16", "int8")]
    assert on_gpu == ["float16", "bfloat16", "int8_float16"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    message = r"engine ctranslate2 needs the package 'ctranslate2': pip install 'ctranslate2>=4.8'"
    with pytest.raises(MissingExtraError, match=message):
        resolve(section(), "translate", {})
    with pytest.raises(MissingExtraError, match=message):
        Ct2Translator(section())
    with pytest.raises(MissingExtraError, match=message):
        converted_folder("tiny-nllb", "float32", tmp_path)


def test_pickled_weights_are_converted_twice_and_give_the_same(tmp_path: Path, cache: Path) -> None:
    """Into safetensors first, and these into CTranslate2's format."""
    pickled = tmp_path / "model"
    shutil.copytree(FOLDER, pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    first, second = (converted_folder(name, "float32") for name in (str(pickled), "tiny-nllb"))
    assert first != second and (first / "model.bin").read_bytes() == (second / "model.bin").read_bytes()


def test_the_folder_is_named_by_its_content(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = converted_folder("tiny-nllb", "float32")
    assert folder.parent == cache and tree_hash(FOLDER)[:32] in folder.name and "-float32-" in folder.name
    assert converted_folder("tiny-nllb", "int8_float32") != folder
    other = tmp_path / "other"
    shutil.copytree(FOLDER, other)
    assert converted_folder(str(other), "float32") == folder
    monkeypatch.setattr(ct2, "_convert", None)
    (other / "config.json").write_text((FOLDER / "config.json").read_text() + " ")
    with pytest.raises(TypeError):  # other content, so it would convert again
        converted_folder(str(other), "float32")
    assert converted_folder("tiny-nllb", "float32") == folder


def _convert_at_once(root: Path, barrier: Any, results: Any) -> None:
    conversions = 0
    convert = ct2._convert

    def counted(*arguments: Any) -> None:
        nonlocal conversions
        conversions += 1
        convert(*arguments)

    ct2._convert = counted
    barrier.wait()
    folder = converted_folder("tiny-nllb", "float32", root)
    results.put((str(folder), conversions))


@pytest.mark.slow
def test_two_processes_convert_once(tmp_path: Path, cache: Path) -> None:
    name = converted_folder("tiny-nllb", "float32").name
    half = tmp_path / f".{name}.part-1-killed"  # what a killed process leaves is not taken for whole
    half.mkdir()
    (half / "model.bin").write_text("half")
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(2), spawn.Queue()
    processes = [spawn.Process(target=_convert_at_once, args=(tmp_path, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert {folder for folder, _ in found} == {str(tmp_path / name)}
    assert sorted(conversions for _, conversions in found) == [0, 1]
    assert {path.name for path in tmp_path.iterdir()} == {name, f".{name}.lock"}
    assert tree_hash(tmp_path / name) == tree_hash(cache / name)


KILLED = """
import os, signal, sys
from pathlib import Path
from xner_ray.storage import cache
from xner_ray.translate import ct2

cache._sync = lambda folder: os.kill(os.getpid(), signal.SIGKILL)  # all is written, nothing has its final name
ct2.converted_folder("tiny-nllb", "float32", Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_conversion_is_done_again(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    (part,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert part.name.startswith(".") and (part / "model.bin").is_file()
    folder = converted_folder("tiny-nllb", "float32", tmp_path)
    assert (folder / "model.bin").is_file() and not part.exists()


HUB = """
import sys
from test_ct2 import section
from xner_ray.translate.ct2 import Ct2Translator, resolve

resolve(section(model=sys.argv[1]), "translate", {"spa_Latn": ("eng_Latn", "spa_Latn")})
print(Ct2Translator(section(model=sys.argv[1])).translate(["Brian Otieno travelled to Madrid on Friday ."],
      "eng_Latn", "spa_Latn")[0].text)
"""


@pytest.mark.slow
@pytest.mark.parametrize("revision", ["", "@main", "@" + "a1" * 20])
def test_a_hub_model_needs_no_network_once_it_is_here(tmp_path: Path, revision: str) -> None:
    commit = "a1" * 20
    home = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(FOLDER, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    environment = os.environ | {
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "XNER_RAY_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", HUB, "someone/tiny" + revision]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == "Brian Otieno viajó a Madrid el viernes.\n", done.stderr
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    assert commit[:32] in folder.name


@pytest.mark.gpu
def test_float16_and_int8_on_a_gpu_give_the_same_templates() -> None:
    for dtype in ("auto", "int8"):
        on_gpu, on_cpu = Ct2Translator(section(dtype=dtype, gpus=1)), Ct2Translator(section())
        for source, target, texts in drawn(48):
            one, other = (engine.translate(texts, source, target) for engine in (on_gpu, on_cpu))
            assert differing(one, other, 0.1) <= 1
