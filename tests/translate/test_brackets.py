"""Brackets through a translator: the defects of the reference implementation, and a table for each fault."""

from __future__ import annotations

from difflib import SequenceMatcher

import pytest

from xner_ray.data import words
from xner_ray.errors import Flag, Loss
from xner_ray.translate import brackets
from xner_ray.translate.brackets import Marked, Placement, Recovered, mark, recover, to_words


def found(recovered: Recovered) -> list[str | Loss]:
    """For each entity the text of its piece, or its loss."""
    return [recovered.text[e.start : e.end] if isinstance(e, Placement) else e for e in recovered.entities]


# What the reference implementation does wrong (reference/method.md 6.2, item 3)


@pytest.mark.parametrize("names", [["Annan", "Anna"], ["Anna", "Annan"]])
def test_the_most_similar_entity_gets_the_piece_not_the_last_that_is_similar(names: list[str]) -> None:
    assert found(recover("[Anna] y [Annan]", names)) == names


def test_markers_do_not_count_in_the_similarity() -> None:
    # "[X]" and "X" have the ratio 0.5, which is not enough.
    assert recover("[X] vio", ["X"]).entities == [Placement(0, 1, 1.0)]
    assert recover("[X] vio", ["[X]"]).entities == [Placement(0, 1, 1.0)]


def test_entities_may_change_their_order() -> None:
    assert found(recover("[Bob] fue visto por [Anna]", ["Anna", "Bob"])) == ["Anna", "Bob"]


def test_nested_pieces_both_count_until_they_share_a_word() -> None:
    recovered = recover("[Banco de [Japón]]", ["Banco de Japón", "Japón"])
    assert found(recovered) == ["Banco de Japón", "Japón"]
    offsets = words.split(recovered.text, "spa_Latn")
    assert to_words(recovered.entities, offsets) == [Placement(0, 3, 1.0), Loss.MARKER_OVERLAP]


def test_literal_brackets_are_no_markers() -> None:
    marked = mark("Anna [sic] saw （Bob） [1]", [(0, 4), (16, 19)])
    assert marked == Marked("[Anna] (sic) saw （[Bob]） (1)", "[]（）[]")
    recovered = recover("(1) [Anna] (sic) vio ([Bob])", ["Anna", "Bob"], brackets=marked.brackets)
    assert recovered.text == "[1] Anna (sic) vio [Bob]"
    assert found(recovered) == ["Anna", "Bob"]


@pytest.mark.parametrize("translation", ["(sic", "(sic) (1)", ")sic(", "sic"])
def test_brackets_that_the_translation_does_not_keep_stay_round(translation: str) -> None:
    assert recover(translation, [], brackets="[]").text == translation


# Unicode


@pytest.mark.parametrize(
    ("translation", "entity", "text"),
    [
        ("［Anna］ vio", "Anna", "Anna vio"),
        ("﹇Anna﹈ vio", "Anna", "Anna vio"),
        ("[ANNA] vio", "anna", "ANNA vio"),
        ("[STRASSE]", "Straße", "STRASSE"),
        ("[Jose\u0301]", "José", "Jose\u0301"),
        ("راى [آنا] زيدا", "آنا", "راى آنا زيدا"),
        ("היא ראתה את [\u200fאנה]", "אנה", "היא ראתה את \u200fאנה"),
        ("我见过[安娜]。", "安娜", "我见过安娜。"),
    ],
)
def test_scripts_and_forms(translation: str, entity: str, text: str) -> None:
    recovered = recover(translation, [entity])
    assert recovered.text == text
    assert isinstance(recovered.entities[0], Placement)
    assert recovered.entities[0].similarity > 0.8


# Markers and white space. The first bar parts the translation from the clean text; there brackets show the pieces.
CLEAN = """
vio [ Anna ] . | vio [Anna] .
vio [ Anna ]. | vio [Anna].
vio [Anna ], y | vio [Anna], y
([ Anna ]) | ([Anna])
l'[ Union ] | l'[Union]
a[ b ]c | a [b] c
a[[ b ]]c | a [b] c
a[b]c | a[b]c
हिन्दी[ ना ]मे | हिन्दी [ना] मे
[Anna][Bob] | [Anna][Bob]
[Anna] [Bob] | [Anna] [Bob]
[ Anna ][ Bob ] | [Anna] [Bob]
vio [ ] Anna | vio Anna
vio [] , ayer | vio , ayer
a ] b | a b
a [ b | a b
a [ | a
] a | a
[a b] | [a b]
[ | <nothing>
"""


@pytest.mark.parametrize(
    ("translation", "expected"), [line.split(" | ") for line in CLEAN.replace("<nothing>", "").strip("\n").split("\n")]
)
def test_white_space_inside_a_marker_goes_with_it_unless_it_parts_two_words(translation: str, expected: str) -> None:
    recovered = recover(translation, [])
    # Left over at an end of the sentence, white space is no word and is not worth a rule.
    shift = len(recovered.text) - len(recovered.text.lstrip())
    assert mark(recovered.text.strip(), [(a - shift, b - shift) for a, b in recovered.pieces]).text == expected


# Faults and losses


FAULTS: list[tuple[str, list[str], dict[Flag, int], list[str | Loss]]] = [
    ("[Anna] vio [Bob]", ["Anna", "Bob"], {}, ["Anna", "Bob"]),
    ("Anna] vio [Bob]", ["Anna", "Bob"], {Flag.MARKER_UNOPENED: 1}, [Loss.MARKER_LOST, "Bob"]),
    ("[Anna vio [Bob]", ["Anna", "Bob"], {Flag.MARKER_UNCLOSED: 1}, [Loss.MARKER_LOST, "Bob"]),
    (
        "]Anna[ vio [Bob]",
        ["Anna", "Bob"],
        {Flag.MARKER_UNOPENED: 1, Flag.MARKER_UNCLOSED: 1},
        [Loss.MARKER_LOST, "Bob"],
    ),
    ("[] vio [ ] y [[]]", ["Anna"], {Flag.MARKER_EMPTY: 4}, [Loss.MARKER_LOST]),
    ("[[Anna] Lee]", ["Anna Lee"], {Flag.MARKER_NESTED: 1, Flag.MARKER_INVENTED: 1}, ["Anna Lee"]),
    ("[[[a] b] c]", ["a b c", "a b", "a"], {Flag.MARKER_NESTED: 2}, [Loss.MARKER_LOST, "a b", "a"]),
    ("[[Anna]] vio", ["Anna"], {Flag.MARKER_NESTED: 1}, ["Anna"]),
    ("[Anna []] vio", ["Anna"], {Flag.MARKER_EMPTY: 1}, ["Anna"]),
    ("[Anna] vio. [Anna] vio.", ["Anna"], {Flag.MARKER_INVENTED: 1}, ["Anna"]),
    ("[Anna] vio", [], {Flag.MARKER_INVENTED: 1}, []),
]


@pytest.mark.parametrize(("translation", "entities", "faults", "expected"), FAULTS)
def test_faults_are_counted_and_cost_only_their_entity(
    translation: str, entities: list[str], faults: dict[Flag, int], expected: list[str | Loss]
) -> None:
    recovered = recover(translation, entities)
    assert recovered.faults == faults
    assert found(recovered) == expected


def test_every_fault_has_an_example() -> None:
    assert {fault for _, _, faults, _ in FAULTS for fault in faults} == {
        each for each in Flag if each.startswith("marker_")
    }


@pytest.mark.parametrize(
    ("translation", "entities", "expected"),
    [
        ("[Anna] vio", [None], [Loss.MARKER_NOT_TRANSLATED]),
        ("[Anna] vio", [None, "Anna"], [Loss.MARKER_NOT_TRANSLATED, "Anna"]),
        ("Anna vio", ["Anna"], [Loss.MARKER_LOST]),
        ("(Anna) vio", ["Anna"], [Loss.MARKER_LOST]),
        ("[Anna] vio", ["Anna", "Anna"], ["Anna", Loss.MARKER_LOST]),
        ("[perro] vio", ["Anna"], [Loss.MARKER_NOT_SIMILAR]),
        ("[Anna] vio [perro]", ["Anna", "Anna"], ["Anna", Loss.MARKER_NOT_SIMILAR]),
        ("[ab] vio", ["axyb"], ["ab"]),  # 2 * 2 / 6 = 0.6667
        ("[ab] vio", ["axyzwb"], [Loss.MARKER_NOT_SIMILAR]),  # 2 * 2 / 8 = 0.5, and it must be more
        ("[Anna] vio", [""], [Loss.MARKER_NOT_SIMILAR]),
        ("", ["Anna"], [Loss.MARKER_LOST]),
    ],
)
def test_losses(translation: str, entities: list[str | None], expected: list[str | Loss]) -> None:
    assert found(recover(translation, entities)) == expected


def test_of_equal_pieces_the_first_counts_and_entities_of_equal_text_keep_their_order() -> None:
    doubled = recover("[Anna] vio a [Bob]. [Anna] vio a [Bob].", ["Anna", "Bob"])
    assert doubled.entities == [Placement(0, 4, 1.0), Placement(11, 14, 1.0)]
    same = recover("[perro] [Anna] [Anna]", ["Anna", "Anna"])
    assert same.entities == [Placement(6, 10, 1.0), Placement(11, 15, 1.0)]
    # Both are one place away from the entity's own.
    around = recover("[Anna] [perro] [Anna]", [None, "Anna"])
    assert around.entities[1] == Placement(0, 4, 1.0)


# Words


def test_a_piece_takes_every_word_that_it_touches() -> None:
    offsets = [(0, 2), (3, 6), (7, 9)]
    places = [Placement(1, 2, 1.0), Placement(4, 9, 0.7), Loss.MARKER_LOST]
    assert to_words(places, offsets) == [Placement(0, 1, 1.0), Placement(1, 3, 0.7), Loss.MARKER_LOST]


def test_of_two_on_one_word_the_longer_stays_then_the_one_further_left_then_the_first() -> None:
    offsets = [(0, 2), (3, 5), (6, 8)]
    longer = [Placement(0, 1, 1.0), Placement(1, 4, 0.6)]
    assert to_words(longer, offsets) == [Loss.MARKER_OVERLAP, Placement(0, 2, 0.6)]
    longer_and_right = [Placement(0, 4, 1.0), Placement(4, 12, 0.6)]
    assert to_words(longer_and_right, [*offsets, (9, 12)]) == [Loss.MARKER_OVERLAP, Placement(1, 4, 0.6)]
    left = [Placement(4, 8, 1.0), Placement(0, 4, 0.6)]
    assert to_words(left, offsets) == [Loss.MARKER_OVERLAP, Placement(0, 2, 0.6)]
    first = [Placement(1, 2, 0.6), Placement(0, 1, 1.0)]
    assert to_words(first, offsets) == [Placement(0, 1, 0.6), Loss.MARKER_OVERLAP]


def test_one_that_is_lost_costs_no_other_its_place() -> None:
    # The second loses to the first, so the third has its word for itself.
    offsets = [(0, 1), (2, 3), (4, 6), (7, 9)]
    places = [Placement(0, 5, 1.0), Placement(5, 8, 1.0), Placement(8, 9, 1.0)]
    assert to_words(places, offsets) == [Placement(0, 3, 1.0), Loss.MARKER_OVERLAP, Placement(3, 4, 1.0)]


# Errors


@pytest.mark.parametrize(
    "spans", [[(2, 2)], [(3, 1)], [(0, 9)], [(-1, 2)], [(2, 4), (0, 1)], [(0, 3), (2, 4)], [(4, 5)]]
)
def test_mark_refuses_spans_that_it_cannot_mark(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"cannot be marked: it must have text, start at \d or later and end at 7"):
        mark("Anna xy", spans)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_recover_refuses_a_similarity_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match=r"min_similarity is .*; allowed: 0 to 1"):
        recover("[Anna]", ["Anna"], min_similarity=value)


# Work


DEEP = "".join(f"[{n * 7919} x" for n in range(200)) + "]" * 200


@pytest.mark.parametrize(
    ("translation", "entities", "most"),
    [
        ("[Anna] vio a [Bob], " * 100, ["Anna", "Bob"] * 10, 10 * (4 * 4 + 3 * 3)),  # each distinct piece once
        (
            "".join(f"[abc{chr(0x4E00 + n)}] " for n in range(200)),
            ["abcdefghijkl"] * 20,
            0,
        ),  # letters in common: too few
        ("".join(f"[{'abc' * n}] " for n in range(1, 200)), ["abc"], 3 * (3 + 6)),  # lengths too far apart
        (DEEP, ["7919 x15838 x23757 x" * 30] * 5, 0),  # of a nest the two pairs inside
        (DEEP, ["1575881 x"] * 5, 5 * 9 * (9 + 18)),
    ],
)
def test_a_loop_of_400_brackets_is_compared_in_little_work(
    translation: str, entities: list[str], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = 0

    class Counting(SequenceMatcher[str]):
        def ratio(self) -> float:
            nonlocal work
            work += len(self.a) * len(self.b)
            return super().ratio()

    monkeypatch.setattr(brackets, "SequenceMatcher", Counting)
    recover(translation, entities)
    assert work <= most


def test_long_entities_are_compared_letter_by_letter() -> None:
    # difflib's autojunk would leave out letters that are frequent in 200 or more.
    name = "abcd" * 50
    assert recover(f"[{name}]", [name]).entities == [Placement(0, 200, 1.0)]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "translation", ["[" * 100_000, " " * 200_000 + "a", "[ " * 50_000 + "a" + " ]" * 50_000, "] " * 90_000]
)
def test_long_runs_take_linear_time(translation: str) -> None:
    assert recover(translation, []).text.strip() in ("a", "")
