import json

from exported import PLAIN, ROW, TEXT, TOKENS, row

from xner_ray.write import prodigy


def test_tokens_and_spans_agree_with_the_text() -> None:
    for task in map(json.loads, prodigy.write([ROW, PLAIN])):
        tokens = task["tokens"]
        assert [token["id"] for token in tokens] == list(range(len(tokens)))
        for token in tokens:
            assert task["text"][token["start"] : token["end"]] == token["text"]
        for span in task["spans"]:
            assert span["start"] == tokens[span["token_start"]]["start"]
            assert span["end"] == tokens[span["token_end"]]["end"]  # the last token is inside
        assert task["answer"] == "accept"
        assert not [key for key in task if key.startswith("_")]
        assert task["id"] == task["meta"]["id"]


def test_white_space_after_a_token_is_told() -> None:
    (line,) = prodigy.write([ROW])
    tokens = json.loads(line)["tokens"]
    assert [token["text"] for token in tokens] == TOKENS
    assert [token["text"] for token in tokens if not token["ws"]] == ["Málaga", "."]
    assert [TEXT[span["start"] : span["end"]] for span in json.loads(line)["spans"]] == ["Ana  María", "Málaga"]
    (line,) = prodigy.write([row("東京へ", ["東京", "へ"], ((0, 1, "LOC"),))])
    assert [token["ws"] for token in json.loads(line)["tokens"]] == [False, False]
