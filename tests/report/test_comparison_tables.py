import io
from typing import Any

import pytest
from entities import Entities, row, table
from rich.console import Console

from xner_ray.evaluate.comparison import Comparison, Run, compare
from xner_ray.report.comparison import comparison_tables, markdown, print_sentences

RUNS = [
    Run("runs/base", "base", "defaults", {}),
    Run("runs/paper", "paper", "match.solver=greedy match.scores={align: 1.0}", {"match.solver": "greedy"}),
    Run("runs/[/x]", "[/x]", "align.method=argmax", {"align.method": "argmax"}),
]
GOLD: list[Entities] = [[(0, 2, "PER"), (3, 4, "LOC")], [(1, 2, "ORG")], [], [(5, 8, "LOC")]]
SIDES: list[list[Entities]] = [
    [[(0, 2, "PER")], [(1, 2, "ORG")], [(0, 1, "PER")], [(5, 7, "LOC")]],
    GOLD,
    [[(0, 2, "PER"), (3, 4, "ORG")], [], [], [(5, 7, "LOC")]],
]


def _made(n_runs: int = 3, langs: str = "spa_Latn", gold: bool = True, **options: Any) -> Comparison:
    def rows(side: list[Entities]) -> list[dict[str, Any]]:
        made = zip(GOLD, side, strict=True)
        words = {"source_tokens": ["a", "b"], "source_spans": []}
        return [row(right if gold else None, one, id=f"s{n}", **words) for n, (right, one) in enumerate(made)]

    runs = [[table(rows(side), lang) for lang in langs.split()] for side in SIDES[:n_runs]]
    return compare(runs, RUNS[:n_runs], **{"samples": 100, **options})


def _printed(comparison: Comparison, width: int, **options: Any) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_tables(comparison, **options))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", [80, 120])
def test_no_cell_is_cut_or_folded(width: int) -> None:
    text = _printed(_made(langs="spa_Latn swe_Latn"), width, wide=width == 120)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    f1, difference = ["50.00", "100.00", "28.57"], ["-", "+50.00", "-21.43"]
    for lang in ("spa_Latn", "swe_Latn", "mean of 2"):
        blocks = [n for n, line in enumerate(lines) if line.split("  ")[0].strip() == lang]
        scores, tests = (blocks[0], blocks[0]) if width == 120 else blocks[:2]
        for n, name in enumerate(("1 base", "2 paper", "3 [/x]")):
            assert f" {name} " in lines[scores + n] and f" {name} " in lines[tests + n]
            assert lines[scores + n].split(name)[1].split()[2] == f1[n]
            assert lines[tests + n].split()[-4] == difference[n]
    for part in ("base (reference)", "match.solver=greedy match.scores={align: 1.0}", "align.method=argmax"):
        assert part in text
    assert "p corrected for the 2 tests of a language (Holm 1979)" in text
    counted = [line.split() for line in lines if "2 paper" in line or "3 [/x]" in line][-2:]
    assert counted == [["swe_Latn", "2", "paper", "4", "3", "0", "3", "0"], ["3", "[/x]", "4", "3", "1", "1", "1"]]


def test_long_names_fold_and_stay_whole() -> None:
    made = _made(2)
    name = "runs/a_folder_with_a_very_long_name_that_no_table_of_80_columns_has_room_for"
    runs = [made.runs[0], Run(name, name, "defaults", {})]
    text = _printed(Comparison(**{**vars(made), "runs": runs}), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("+50.00") == 1


def test_without_resamples_there_is_no_test() -> None:
    text = _printed(_made(2, samples=0), 80)
    assert "Holm 1979" not in text
    assert [line.split()[-4:] for line in text.splitlines() if "+50.00" in line] == [["+50.00", "-", "-", "-"]]
    assert "Holm: equal to p, with one test of a language" in _printed(_made(2), 80)


def test_agreement_is_not_called_quality() -> None:
    text = _printed(_made(gold=False), 80)
    assert "Agreement with run 1, in percent; without gold, so no measure of quality" in " ".join(text.split())
    assert "against gold" not in text
    rows = [line.split() for line in text.splitlines() if "57.14" in line or "50.00" in line]
    assert rows == [
        ["spa_Latn", "2", "paper", "4", "25.0", "4", "25.0", "50.00"],
        ["3", "[/x]", "4", "25.0", "4", "25.0", "57.14"],
    ]


def test_markdown_has_the_same_figures() -> None:
    text = markdown(_made(langs="spa_Latn swe_Latn"))
    lines = text.splitlines()
    assert lines[0] == "|  | run | method | P | R | F1 | 95% interval | diff. | 95% interval | p | Holm |"
    assert lines[1] == "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert lines[2].startswith("| spa_Latn | base | defaults | 50.0 | 50.0 | 50.00 | ")
    assert lines[3].startswith(
        "|  | paper | `match.solver=greedy match.scores={align: 1.0}` | 100.0 | 100.0 | 100.00 | "
    )
    assert lines[8].startswith("| mean of 2 | base |")
    assert "- diff.: F1 minus that of base, over the same sentences" in lines
    assert "|  | run | sentences | differ | only base right | only the run right | neither |" in lines
    assert "| spa_Latn | paper | 4 | 3 | 0 | 3 | 0 |" in lines
    for line in lines:
        if line.startswith("|"):
            assert line.count(" | ") in (10, 6)
    agreement = markdown(_made(2, gold=False)).splitlines()
    assert agreement[0] == "Agreement with base, in percent; without gold, so no measure of quality."
    assert agreement[4].startswith("| spa_Latn | paper | `match.solver=")
    assert agreement[4].endswith("| 4 | 25.0 | 4 | 25.0 | 50.00 |")


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    made = _made(2)
    runs = [Run("a|b", "a|b", "defaults", {}), made.runs[1]]
    text = markdown(Comparison(**{**vars(made), "runs": runs}))
    assert "| spa_Latn | a\\|b | defaults |" in text


def test_sentences_are_shown_with_gold_and_both_runs() -> None:
    made = _made(differ=2)
    console = Console(width=160, file=io.StringIO(), force_terminal=True, color_system="standard")
    print_sentences(console, made)
    coloured = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[" in coloured
    plain = Console(width=160, file=io.StringIO())
    print_sentences(plain, made)
    lines = [line.rstrip() for line in plain.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    w = " ".join("w" * 20)
    assert lines[:6] == [
        "base and paper differ",
        "s0  spa_Latn  only paper is right",
        "  source  a b",
        f"  gold    w w[PER] w w[LOC] {w}",
        f"  base    w w[PER] w w {w}",
        f"  paper   w w[PER] w w[LOC] {w}",
    ]
    assert "base and [/x] differ" in lines
    assert sum("differ" in line for line in lines) == 2
    assert sum("right" in line for line in lines) == 4


def test_a_rejected_sentence_says_why() -> None:
    rows = [row(one, one, id=f"s{n}") for n, one in enumerate(GOLD)]
    lost = [{**rows[0], "status": "rejected", "reason": "incomplete"}, *rows[1:]]
    console = Console(width=160, file=io.StringIO())
    print_sentences(console, compare([[table(rows)], [table(lost)]], RUNS[:2], samples=0, differ=1))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines()[-1].rstrip().endswith(" rejected: incomplete")
    assert "only base is right" in text
