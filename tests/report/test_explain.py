import io
from typing import Any

from made_rows import table_from_rows
from rich.console import Console

from xner_ray.data.links import METHODS
from xner_ray.data.row import row_schema
from xner_ray.match.stage import MatchStage
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.report.explain import explain
from xner_ray.report.tables import print_sentences

RECIPE = load_recipe({"input": {"path": "a"}, "targets": ["spa_Latn"]})


def _link(source: int, target: int) -> dict[str, Any]:
    bit = 1 << METHODS.index("itermax")
    return {"source": source, "target": target, "forward": 1.0, "backward": 1.0, "cosine": 0.9, "methods": bit}


def _row(**cells: Any) -> dict[str, Any]:
    row = {
        "id": "x",
        "row": 0,
        "source_lang": "eng_Latn",
        "lang": "spa_Latn",
        "status": "ok",
        "reason": None,
        "detail": None,
        "source_text": "Bank of Japan met [Bob]",
        "text": "Banco de Japón y Bob",
        "source_tokens": ["Bank", "of", "Japan", "met", "[Bob]"],
        "tokens": ["Banco", "de", "Japón", "y", "Bob"],
        "source_spans": [
            {"start": 0, "end": 3, "label": "ORG", "score": 1.0},
            {"start": 2, "end": 3, "label": "LOC", "score": 1.0},
            {"start": 3, "end": 4, "label": "PER", "score": 1.0},
            {"start": 4, "end": 5, "label": "PER", "score": 1.0},
        ],
        "unprojected": [{"source": 1, "reason": "nested"}],
        "links": [_link(0, 0), _link(1, 1), _link(2, 2), _link(4, 4)],
        "gold_spans": None,
        "translation_score": -0.5,
        **cells,
    }
    return row


def _shown(row: dict[str, Any], recipe: Recipe = RECIPE) -> str:
    first = MatchStage(recipe)(table_from_rows([row], row_schema()))
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(explain(first.to_pylist()[0], first, recipe, None, ["LOC", "ORG", "PER"]))
    return capture.get()


def test_given_links_are_not_called_a_methods() -> None:
    given = {"path": "a", "parallel": {"spa_Latn": "b"}, "links": "c"}
    shown = _shown(_row(), load_recipe({"input": given, "targets": ["spa_Latn"], "align": {"backend": "provided"}}))
    assert "links: as given" in shown
    assert "itermax" not in shown
    assert "itermax" in _shown(_row())


def test_everything_about_a_sentence_is_said() -> None:
    shown = _shown(_row())
    assert "Banco de Japón[ORG]" in shown
    assert "entity 0 'Bank of Japan' ORG" in shown
    assert "entity 1 'Japan': nested, not projected" in shown
    assert "entity 2 'met' PER: not projected, no_candidate" in shown
    assert "[0, 3)" in shown
    assert "translation score -0.500" in shown
    assert "objective 2.0000, optimal, by independent" in shown
    assert "[Bob][PER]" in shown  # text of the input is no markup


def test_rejects_say_why() -> None:
    shown = _shown(_row(status="rejected", reason="too_long", detail="f:3: [bold] words"))
    assert "rejected: too_long: f:3: [bold] words" in shown
    assert "Bank of Japan" in shown


def test_sentences_without_entities_say_so() -> None:
    assert "nothing was aligned or matched" in _shown(_row(source_spans=[], unprojected=[]))


def test_a_bridge_shows_its_words_and_what_was_lost_on_it() -> None:
    bridge = [{"start": 1, "end": 2, "label": "PER", "score": 0.9, "source": 3}]
    lost = [{"source": 0, "reason": "marker_lost"}, {"source": 2, "reason": "marker_lost"}]
    row = _row(
        bridge_tokens=["vio", "Roberto"],
        bridge_spans=bridge,
        links=[_link(1, 4)],
        unprojected=[*_row()["unprojected"], *lost],
    )
    shown = _shown(row)
    assert "bridge  vio Roberto[PER]" in shown
    assert "1 Roberto" in shown  # the links' source word
    assert "entity 3 '[Bob]' PER" in shown
    assert "entity 0 'Bank of Japan': marker_lost, not projected" in shown


def test_a_combined_row_says_which_entities_it_lacks() -> None:
    combined = {"runs": ["a", "b"], "weights": [1, 1], "method": "vote"}
    recipe = load_recipe(
        {"input": {"path": "a"}, "targets": ["spa_Latn"], "projector": "combine", "combined": combined}
    )
    row = _row(spans=[], unprojected=[{"source": 3, "reason": "outvoted"}], objective=0.0, optimal=False, solver="none")
    table = table_from_rows([row], row_schema())
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(explain(table.to_pylist()[0], table, recipe, None, ["PER"]))
    assert "entity 3 '[Bob]': outvoted, not projected" in capture.get()


def test_a_terminal_obeys_nothing_of_a_row() -> None:
    """Escapes, in seven bits and in eight, and what turns the direction of the text around it."""
    evil = "\x1b]0;x\x07\x9b2J\u202e"
    obeyed = {*evil} - {*"]0;x2J"}
    words = [f"{word}{evil}" for word in ("Bank", "of", "Japan", "met", "Bob")]
    row = _row(source_tokens=words, tokens=words, gold_spans=[{"start": 0, "end": 1, "label": "ORG"}])
    shown = _shown(row) + _shown(_row(status="rejected", reason="control_character", detail=evil, source_text=evil))
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        print_sentences(console, [{**row, "id": evil, "spans": row["source_spans"]}], ["ORG"])
    assert not obeyed & {*shown, *capture.get()}
    assert "Bob\ufffd]0;x" in shown and "Bob\ufffd]0;x" in capture.get()
