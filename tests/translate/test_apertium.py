"""The Apertium engine on a fake program, for what the real one seldom does."""

import sys
from pathlib import Path

import pytest
from apertium_texts import EN, ES, INSTALL, texts_of

from xner_ray.errors import FatalError, Reason, RecipeError, RetryableError
from xner_ray.recipe.sections import Translate
from xner_ray.translate.apertium import ApertiumTranslator, resolve

# Speaks the stream format in capitals. A word decides what else it does; the pipeline's starts are counted.
FAKE = """#!{python}
import os, sys, time
open({starts!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
n, rest = 0, b""
while chunk := os.read(0, 65536):
    *whole, rest = (rest + chunk).split(b"\\0")
    for text in whole:
        text, n = text.decode(), n + 1
        if "DIE" in text or ("ONCE" in text and n > 1):
            os.write(1, b"half\\0")
            sys.stderr.write("out of cheese\\n")
            os._exit(3)
        if "HANG" in text or "BROKEN" in {word!r}:
            time.sleep(60)
        if "FULL" in {word!r}:
            sys.exit("no space")
        if "SWALLOW" in text:
            continue
        if "OTHER" in text:
            text = text.replace("[", "[9")
        if "NOTHING" in text:
            text = text[text.index("["):]
        if "TWICE" in text:
            text += "\\0.[77]"
        if "BYTES" in text:
            os.write(1, b"\\xff\\0")
            continue
        os.write(1, text.upper().encode() + b"\\0")
"""


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modes: str = "eng-spa", word: str = "") -> Path:
    """An installation whose only program is FAKE; returns the file that has a line for each of its starts."""
    folder, data, starts = tmp_path / "bin", tmp_path / "share" / "apertium" / "modes", tmp_path / "starts"
    folder.mkdir(exist_ok=True)
    data.mkdir(parents=True, exist_ok=True)
    for mode in modes.split():
        (data / f"{mode}.mode").write_text("fake $1 $2 'a file'")
    _script(
        folder / "apertium", f'#!/bin/sh\ncase $1 in -V) echo "Apertium 9.9";; -l) printf "  %s\\n" {modes};; esac\n'
    )
    _script(folder / "apertium-wblank-mode", '#!/bin/sh\n/bin/cat "$2"\n')
    _script(folder / "fake", FAKE.format(python=sys.executable, starts=str(starts), word=word))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("APERTIUM_DATADIR", raising=False)
    return starts


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApertiumTranslator:
    _fake(tmp_path, monkeypatch)
    return ApertiumTranslator(Translate())


def _starts(tmp_path: Path) -> int:
    return len((tmp_path / "starts").read_text().splitlines())


def test_modes_become_language_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = (
        "en-es eng-spa eng-spa_LATAM spa-eng_US en-gl gl-en hbs-eng eng-hbs en-eo-bytecode Cyrl-Latn eng-xyz nor-eng"
    )
    _fake(tmp_path, monkeypatch, modes)
    assert ApertiumTranslator(Translate()).program.modes == {
        (EN, ES): "eng-spa",
        (EN, "glg_Latn"): "en-gl",
        ("glg_Latn", EN): "gl-en",
        ("bos_Latn", EN): "hbs-eng",
        ("hrv_Latn", EN): "hbs-eng",
    }


def _identity(*directions: tuple[str, str], key: str = "translate") -> str:
    """Return what identifies the directions, each asked for by its own number."""
    found = resolve(Translate(), key, {str(number): each for number, each in enumerate(directions)}).identities
    assert list(found) == [f"engine {number}" for number in range(len(directions))]
    return "; ".join(found.values())


def test_without_the_program_the_message_has_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecipeError, match=rf"^translate\.engine: apertium is not installed\. Install it: {INSTALL}$"):
        _identity((EN, ES))
    with pytest.raises(RecipeError, match=r"^back\.engine: .* apertium apertium-en-gl apertium-eu-en$"):
        _identity(("glg_Latn", EN), ("eus_Latn", EN), key="back")
    with pytest.raises(RecipeError, match=INSTALL):
        ApertiumTranslator(Translate())


def test_without_the_mode_the_message_says_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch, "eng-spa spa-eng")
    _identity((EN, ES), (ES, EN))
    with pytest.raises(
        RecipeError, match=r"from eng_Latn to cat_Latn; installed in .*share/apertium: eng_Latn to spa_"
    ) as e:
        _identity((EN, ES), (EN, "cat_Latn"))
    assert str(e.value).endswith("Install it: apt-get install --no-install-recommends apertium apertium-eng-cat")
    for target in ("eus_Latn", "swh_Latn"):  # eu-en goes into English only
        with pytest.raises(RecipeError, match=f"No Debian package is known for eng_Latn to {target}; choose another"):
            _identity((EN, target))
    with pytest.raises(RecipeError, match="no mode from eng_Latn to glg_Latn"):
        ApertiumTranslator(Translate()).translate(["a"], EN, "glg_Latn")


def test_the_identity_follows_version_mode_programs_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch)
    mode, data = tmp_path / "share/apertium/modes/eng-spa.mode", tmp_path / "eng-spa.bin"
    data.write_bytes(b"1")
    mode.write_text(f"fake $1 $2 '{data}'")
    seen = [_identity((EN, ES))]
    assert seen[0].startswith("Apertium 9.9, eng-spa ")
    assert _identity((EN, ES)) == seen[0]
    data.write_bytes(b"2")
    seen.append(_identity((EN, ES)))
    _script(tmp_path / "bin" / "fake", "#!/bin/sh\ncat\n")
    seen.append(_identity((EN, ES)))
    mode.write_text(f"fake -b $1 $2 '{data}'")
    seen.append(_identity((EN, ES)))
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fake $1 > /tmp/x", "not a plain pipeline: '>'"),
        ("fake; fake", "not a plain pipeline: ';'"),
        ("fake $(id)", "not a plain pipeline"),
        ("fake `id`", "not a plain pipeline"),
        ("fake | no-such-program -z", r"needs a program that is not installed: \['no-such-program'\]"),
        ("fake |", "needs a program that is not installed"),
    ],
)
def test_a_mode_is_never_given_to_a_shell(
    mode: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake(tmp_path, monkeypatch)
    (tmp_path / "share/apertium/modes/eng-spa.mode").write_text(mode)
    with pytest.raises(RecipeError, match=message):
        _identity((EN, ES))


def test_a_program_that_cannot_list_or_print_its_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch)
    (tmp_path / "bin" / "apertium-wblank-mode").unlink()
    with pytest.raises(RecipeError, match=r"apertium-wblank-mode.*; Apertium 3\.8 or newer is needed"):
        _identity((EN, ES))
    _script(tmp_path / "bin" / "apertium", "#!/bin/sh\nexit 4\n")
    with pytest.raises(RecipeError, match="exit status 4"):
        _identity((EN, ES))


def test_unknown_words_stay_unmarked(fake: ApertiumTranslator, tmp_path: Path) -> None:
    """$1 is -n, which an unknown word's mark hangs on; $2 is nothing."""
    assert texts_of(fake.translate(["a"], EN, ES)) == ["A"]
    assert (tmp_path / "starts").read_text() == "-n a file\n"


def test_one_process_a_call(fake: ApertiumTranslator, tmp_path: Path) -> None:
    """What a pipeline remembers of earlier sentences must not depend on what else its actor has done."""
    for call in range(3):
        assert texts_of(fake.translate([f"{call} b", f"{call} c"], EN, ES)) == [f"{call} B", f"{call} C"]
    assert _starts(tmp_path) == 3
    assert (fake.tokens, fake.micro_batch_tokens) == (12, 0)
    assert fake.model_seconds > 0


def test_texts_that_are_not_sent(fake: ApertiumTranslator, tmp_path: Path) -> None:
    results = fake.translate(["", " \t\n", "a\0b", "\ud800", "NOTHING", "a \u00a0\n\tb "], EN, ES)
    reasons = [result[0] if isinstance(result, tuple) else result.text for result in results]
    empty = Reason.TRANSLATION_EMPTY
    assert reasons == [empty, empty, Reason.CONTROL_CHARACTER, Reason.BAD_UTF8, empty, "A B"]
    assert fake.translate([], EN, ES) == []
    assert fake.tokens == 3


def test_more_than_the_pipes_hold(fake: ApertiumTranslator) -> None:
    """Writing all before reading would never end: a pipe holds 64 KiB."""
    texts = [f"{index} " + "word " * 200 + "end" for index in range(3000)]
    assert texts_of(fake.translate(texts, EN, ES)) == [text.upper() for text in texts]
    long = "word " * 300_000 + "end"
    assert texts_of(fake.translate([long, "next"], EN, ES)) == [long.upper(), "NEXT"]


@pytest.mark.slow
@pytest.mark.parametrize("word", ["DIE", "HANG", "SWALLOW", "OTHER", "BYTES"])
def test_a_poison_sentence_is_a_reject_and_its_neighbours_are_saved(word: str, fake: ApertiumTranslator) -> None:
    fake.timeout_s = 2.0 if word in ("HANG", "SWALLOW") else 30.0
    results = fake.translate(["a", "b", f"x {word}", "c", "d"], EN, ES)
    assert texts_of([*results[:2], *results[3:]]) == ["A", "B", "C", "D"]
    assert isinstance(results[2], tuple)
    reason, detail = results[2]
    assert reason is Reason.STAGE_ERROR
    expected = {"HANG": "no answer for 2 s", "SWALLOW": "no answer for 2 s"}
    assert expected.get(word, "not the answer to the sentence") in detail
    if word == "DIE":
        assert "fake has status 3; out of cheese" in detail


def test_a_sentence_that_fails_only_behind_others_is_no_reject(fake: ApertiumTranslator, tmp_path: Path) -> None:
    """All is done again, once: then what had died for another reason gives what it gives undisturbed."""
    assert texts_of(fake.translate(["a", "ONCE b", "c", "ONCE d"], EN, ES)) == ["A", "ONCE B", "C", "ONCE D"]
    assert _starts(tmp_path) == len(["all", "b", "all again", "b", "c d", "d"])


def test_an_answer_too_many_never_reaches_the_next_call(fake: ApertiumTranslator) -> None:
    for call in range(3):
        assert texts_of(fake.translate([f"TWICE{call}"], EN, ES)) == [f"TWICE{call}"]
        assert texts_of(fake.translate(["a", "b"], EN, ES)) == ["A", "B"]


@pytest.mark.slow
def test_a_program_that_fails_on_everything_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch, word="FULL")
    with pytest.raises(FatalError, match=r"eng-spa fails for any text: .*fake has status 1; no space"):
        ApertiumTranslator(Translate()).translate(["a", "b"], EN, ES)
    _fake(tmp_path, monkeypatch, word="BROKEN")
    hangs = ApertiumTranslator(Translate())
    hangs.timeout_s = 0.5
    with pytest.raises(RetryableError, match=r"fails for any text: no answer for 0\.5 s"):
        hangs.translate(["a", "b"], EN, ES)
    _script(tmp_path / "bin" / "fake", "no program")
    with pytest.raises(FatalError, match="fake cannot be started"):
        ApertiumTranslator(Translate()).translate(["a"], EN, ES)
