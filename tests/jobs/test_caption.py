"""jobs/caption.py: each picture is asked about once, answers become one line, and what has none is null and counted."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from given_files import write
from pictures import plain

from xner_ray.models.vllm import Reply

SCRIPT = Path(__file__).parents[2] / "jobs" / "caption.py"


class _Chat:
    tokens, model_seconds = 0, 0.0

    def __init__(self) -> None:
        self.shown: list[str] = []

    def chat(self, conversations: Sequence[Any], max_tokens: Any, schema: Any, pictures: Any) -> list[Reply]:
        assert schema is None and all(len(one) == 1 for one in conversations)
        self.shown += [identity for identity, _ in pictures]
        answers = {(255, 0, 0): ("a red\n  <b>card</b> ", "stop"), (0, 0, 255): ("blue and", "length")}
        found = [answers[image.getpixel((0, 0))] for _, image in pictures]
        return [Reply(text, finished, None, 3) for text, finished in found]  # type: ignore[arg-type]


def test_pictures_are_asked_about_once_and_only_whole_answers_count(tmp_path: Path) -> None:
    for name, colour in (("a.png", "red"), ("b.png", "red"), ("c.png", "blue")):
        (tmp_path / name).write_bytes(plain(colour))
    space = runpy.run_path(str(SCRIPT))
    chat, counted = _Chat(), Counter[str]()
    references = ["a.png", None, "b.png", "c.png", "../a.png", "d.png", "a.png"]
    found = space["captions"](chat, references, tmp_path, 32, counted)
    assert found == ["a red <b>card</b>", None, "a red <b>card</b>", None, None, None, "a red <b>card</b>"]
    assert len(chat.shown) == 2, "two files of the same bytes are one picture"
    assert counted == {"captioned": 2, "no caption (length)": 1, "image_refused": 1, "image_missing": 1}


def test_what_it_cannot_do_it_says(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "s", "photo": "c", "caption": "x", "odd": {"path": "c"}}])
    for arguments, said in [
        (("--column", "image"), "no row has a reference under 'image'"),
        ((), "has a column 'caption' alr"),
        (("--column", "text", "--name", "text"), "has a column 'text' already"),
        (("--column", "odd"), "'odd' of object 1 is no text"),
    ]:
        command = [
            sys.executable,
            str(SCRIPT),
            str(tmp_path / "a.jsonl"),
            str(tmp_path / "b"),
            "--model",
            "m",
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and said in done.stderr
    assert not (tmp_path / "b").exists()


def test_files_of_strangers_are_read_and_written_whole(tmp_path: Path) -> None:
    """Lines end with line feeds alone, halves of surrogate pairs can be written, and what is no object is said."""
    space = runpy.run_path(str(SCRIPT))
    rows = [{"caption": "a\u2028b\x85c\x0b\r"}, {"caption": "\ud800 é"}, {"caption": "é"}]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(space["line_of"], rows)), "utf-8", newline="\n")
    assert space["read"](path) == rows and path.read_bytes().count("é".encode()) == 1
    for line, said in ((b"{", "line 2 is no JSON"), (b"[1]", "line 2 is no object"), (b"\xff", "line 2 is no JSON")):
        path.write_bytes(b"{}\n" + line + b"\n")
        with pytest.raises(ValueError, match=said) as found:
            space["read"](path)
        assert "\n" not in str(found.value)
