"""The Apertium engine on the real program, where it is installed."""

import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from apertium_texts import EN, ES, INSTALL, texts_of

from xner_ray.recipe.sections import Translate
from xner_ray.translate import apertium
from xner_ray.translate.apertium import ApertiumTranslator, Pipeline, resolve

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[2] / "jobs" / "data"
installed = pytest.mark.skipif(
    not Path("/usr/share/apertium/modes/eng-spa.mode").exists() or shutil.which("apertium") is None,
    reason=f"needs Apertium: {INSTALL}",
)


def _gone(pids: list[int]) -> bool:
    def running(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    deadline = time.monotonic() + 10
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(running, pids))


@pytest.fixture(scope="module")
def real() -> ApertiumTranslator:
    return ApertiumTranslator(Translate())


def _sentences(language: str) -> list[str]:
    blocks = (DATA / f"europarl.{language}.conll").read_text(encoding="utf-8").split("\n\n")
    return [" ".join(line.split()[0] for line in block.splitlines()) for block in blocks if block.strip()]


def _plain(text: str, mode: str) -> str:
    """The program as anyone calls it, one process a sentence."""
    done = subprocess.run(
        ["apertium", "-u", mode],
        input=text.encode(),
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return " ".join(done.stdout.decode().split())


@pytest.mark.slow
@installed
@pytest.mark.parametrize(
    ("language", "source", "target", "mode"), [("en", EN, ES, "eng-spa"), ("es", ES, EN, "spa-eng")]
)
def test_real_sentences_keep_their_order(
    language: str, source: str, target: str, mode: str, real: ApertiumTranslator
) -> None:
    sentences = _sentences(language)
    assert len(sentences) > 500
    texts = texts_of(real.translate(sentences, source, target))
    assert len(texts) == len(sentences)
    assert texts_of(real.translate(sentences, source, target)) == texts
    # None mixed up. Some differ: the tagger remembers words of earlier sentences.
    plain = {
        index: _plain(sentences[index], mode)
        for index in random.Random(7).sample(range(len(sentences)), 20 if language == "en" else 5)
    }
    assert sum(texts[index] == text for index, text in plain.items()) >= 0.9 * len(plain)
    for index, text in plain.items():
        assert difflib.SequenceMatcher(None, text.split(), texts[index].split()).ratio() > 0.7
        assert texts_of(real.translate([sentences[index]], source, target)) == [text]


@installed
def test_real_text_is_translated(real: ApertiumTranslator) -> None:
    texts = ["Hello my friend.", "The European Parliament met in Brussels on 3 May 1999 ."]
    assert texts_of(real.translate(texts, EN, ES)) == [
        "Hola Mi amigo.",
        "La Eurocámara cumplida en Bruselas el 3 de mayo de 1999 .",
    ]


@installed
@pytest.mark.parametrize(
    "special", ["[", "]", "^", "$", "/", "\\", "<", ">", "{", "}", "@", "*", "#", "+", "~", "_", "%", "&"]
)
def test_special_characters_come_back_as_text(special: str, real: ApertiumTranslator) -> None:
    for text in (
        special,
        f"{special} {special}",
        f"{special}Zorgl{special}",
        f"7{special}8",
        f"Zorgl {special}",
        special * 3,
    ):
        assert texts_of(real.translate([text], EN, ES)) == [text]


@installed
def test_the_stream_format_cannot_be_written_by_a_text(real: ApertiumTranslator) -> None:
    texts = [
        "[[t:b:x]]7[[/]]",
        "^7/7<num>$",
        "<STREAMCMD:SETVAR:x>",
        "[3]",
        "[][\\n]",
        ".[]",
        "7.[4]",
        "\\~~",
        "\\",
        "*Zorgl",
    ]
    assert texts_of(real.translate(texts, EN, ES)) == texts
    assert texts_of(real.translate(["Zorgl", "@Zorgl", "#Zorgl"], EN, ES)) == ["Zorgl", "@Zorgl", "#Zorgl"]


@installed
def test_decomposed_letters_are_composed(real: ApertiumTranslator) -> None:
    assert texts_of(real.translate(["un cafe\u0301"], ES, EN)) == texts_of(real.translate(["un caf\u00e9"], ES, EN))


@installed
def test_a_very_long_sentence(real: ApertiumTranslator) -> None:
    long = " , ".join(_sentences("en")[:100])
    first, last = texts_of(real.translate([long, "Hello my friend."], EN, ES))
    assert len(first.split()) > 2000
    assert last == "Hola Mi amigo."


class _Killing(Pipeline):
    """Kills one of its programs while it works, the first time."""

    which: list[int]
    seen: list[int]

    def exchange(self, texts: Sequence[str], answers: list[str], timeout_s: float) -> None:
        self.seen.extend(process.pid for process in self.processes)
        if self.which:
            os.kill(self.processes[self.which.pop()].pid, signal.SIGKILL)
        super().exchange(texts, answers, timeout_s)


@installed
@pytest.mark.parametrize("which", [0, 6, -1])
def test_a_program_of_the_pipeline_is_killed(
    which: int, real: ApertiumTranslator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = _sentences("en")[:100]
    whole = texts_of(real.translate(sentences, EN, ES))
    monkeypatch.setattr(_Killing, "which", [which], raising=False)
    monkeypatch.setattr(_Killing, "seen", [], raising=False)
    monkeypatch.setattr(apertium, "Pipeline", _Killing)
    assert texts_of(real.translate(sentences, EN, ES)) == whole
    assert _Killing.which == [] and len(_Killing.seen) == 3 * 13
    assert _gone(_Killing.seen)


@installed
def test_the_pipeline_ends_with_a_killed_interpreter() -> None:
    code = (
        "import time\nfrom xner_ray.recipe.sections import Translate\n"
        "from xner_ray.translate.apertium import ApertiumTranslator, Pipeline\n"
        "program = ApertiumTranslator(Translate()).program\n"
        "pipeline = Pipeline(program.commands('eng-spa'), program.environment)\n"
        "pipeline.exchange(['a'], [], 60.0)\n"
        "print(*(p.pid for p in pipeline.processes), flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as interpreter:
        assert interpreter.stdout is not None
        pids = [int(pid) for pid in interpreter.stdout.readline().split()]
        interpreter.kill()
    assert len(pids) > 5
    assert _gone(pids)


@installed
def test_the_real_programs_are_found() -> None:
    identities = resolve(Translate(), "translate", {"spa_Latn": (EN, ES), "eng_Latn": (ES, EN)}).identities
    assert all(identity.startswith("Apertium 3.") for identity in identities.values())
    assert len(set(identities.values())) == 2
