"""The report of a loop: loop.md, loop.json, and the tables that the command prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from xner_ray.commands.loop.decision import gained
from xner_ray.evaluate.bootstrap import Difference, Interval
from xner_ray.evaluate.scores import Evaluation, Evaluations
from xner_ray.report.tables import Table, interval_text
from xner_ray.run.counters import Language


@dataclass
class Round:
    """The figures of a round, by language.

    doubtful: entities with a probability below `settled`. expected: F1 by these probabilities, and its interval
    (`expected.py`). agreement: of the judge with the first projection of held-out sentences. projected, student: the
    projections and the students' labels against gold, where the run has any; each document is labelled by a student
    that was not trained on it. files: the judge against the gold of `evaluate`. against: the round kept so far. change,
    held_out: this one's expected F1 and agreement, minus that one's. kept: it took its place.
    """

    number: int
    run: str
    languages: Mapping[str, Language]
    doubtful: Mapping[str, int]
    expected: Mapping[str, tuple[float, Interval | None]]
    agreement: Evaluations
    projected: Evaluations
    student: Evaluations
    files: Evaluations
    against: int | None = None
    change: Difference | None = None
    held_out: Difference | None = None
    kept: bool = False

    @property
    def vetoed(self) -> bool:
        """Whether the round gained by its scores, but not by what its students label on held-out sentences."""
        return not self.kept and gained(self.change)

    def verdict(self) -> str:
        """Return what came of the round, in a line."""
        assert self.change is not None
        interval = interval_text(self.change.interval, signed=True)
        what = "a gain: it is kept" if self.kept else f"no gain: round {self.against} stays"
        if self.vetoed:
            what = f"a gain, but the judge labels held-out sentences worse: round {self.against} stays"
        return f"round {self.number}: expected F1 {100 * self.change.difference:+.2f} ({interval}); {what}"


@dataclass(frozen=True)
class Looped:
    """A finished loop. best: the round that is kept. stopped: for want of a gain. root: of RUNS, as it was given."""

    rounds: list[Round]
    best: int
    stopped: bool
    settled: float
    root: str = field(compare=False)

    @property
    def best_run(self) -> str:
        """The run folder of the round that is kept."""
        return f"{self.root.rstrip('/')}/{self.rounds[self.best].run}"

    def to_dict(self) -> dict[str, Any]:
        """Return what loop.json holds: no times and no places, so that equal loops give equal files."""
        return {
            "best": self.best,
            "run": self.rounds[self.best].run,
            "stopped": self.stopped,
            "settled": self.settled,
            "rounds": [_plain(one) for one in self.rounds],
        }


def _plain(one: Round) -> dict[str, Any]:
    plain = {
        "round": one.number,
        "run": one.run,
        "languages": {
            lang: {
                "rows": own["rows"]["emitted"],
                "entities": own["entities"]["projected"],
                "missing": own["entities"]["unprojected"],
                "doubtful": one.doubtful.get(lang, 0),
                "expected": one.expected[lang][0] if lang in one.expected else None,
                "expected_interval": _bounds(one.expected[lang][1]) if lang in one.expected else None,
            }
            for lang, own in one.languages.items()
        },
    }
    for name in ("agreement", "projected", "student", "files"):
        plain[name] = {found.lang: asdict(found.overall) | {"sentences": found.rows} for found in getattr(one, name)}
    if one.change is None or one.held_out is None:
        return {**plain, "change": None}
    changes = {"expected": asdict(one.change), "held_out": asdict(one.held_out)}
    return {**plain, "change": {"against": one.against, **changes, "kept": one.kept}}


def _bounds(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else asdict(interval)


def dump(looped: Looped) -> bytes:
    """Return the bytes of loop.json."""
    return (json.dumps(looped.to_dict(), indent=1, ensure_ascii=False) + "\n").encode()


def tables(looped: Looped) -> list[Table]:
    """Return the rounds by language, what they miss, what was decided, and what judges reach on other files."""
    rounds = Table(
        "Rounds",
        ["round", "language"],
        ["entities", "doubtful", "expected", "agreement", "gold: run", "gold: students"],
        notes=[
            f"doubtful: entities with a probability below {looped.settled:g}; expected: F1 by these probabilities",
            "agreement: F1 of the judge, a student, against the first projection of held-out, settled sentences",
            "gold: F1, where the run has gold; each document is labelled by a student not trained on it",
        ],
    )
    missing = Table("Entities without a place", ["round", "language", "reasons"], ["all"])
    for one in looped.rounds:
        for lang, own in one.languages.items():
            reasons = own["entities"]["unprojected"]
            said = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
            missing.add_row(one.number, lang, said or "-", f"{sum(reasons.values()):,}")
            likely = f"{100 * one.expected[lang][0]:.2f}" if lang in one.expected else "-"
            cells = [f"{own['entities']['projected']:,}", f"{one.doubtful.get(lang, 0):,}", likely]
            figures = [_f1(_of(found, lang)) for found in (one.agreement, one.projected, one.student)]
            rounds.add_row(one.number, lang, *cells, *figures)
    found = [rounds, missing, _decisions(looped)]
    if any(len(one.files) for one in looped.rounds):
        files = Table("The judge on the files of evaluate", ["round", "language"], ["P", "R", "F1", "interval"])
        for one in looped.rounds:
            for each in one.files:
                rates = [f"{100 * value:.2f}" for value in (each.overall.precision, each.overall.recall)]
                files.add_row(one.number, each.lang, *rates, _f1(each), _interval(each))
        found.append(files)
    return found


def _decisions(looped: Looped) -> Table:
    best = looped.best
    table = Table(
        "Decisions",
        ["round", "decision"],
        ["against", "expected", "interval", "p", "agreement", "interval"],
        notes=[
            f"kept: round {best}, its data set is {looped.rounds[best].run}"
            + ("; stopped, since no further round gained" if looped.stopped else ""),
        ],
    )
    for one in looped.rounds:
        if one.change is not None and one.held_out is not None:
            both = [one.change, one.held_out]
            found = [
                (f"{100 * each.difference:+.2f}", interval_text(each.interval, signed=True, digits=2)) for each in both
            ]
            decision = "kept" if one.kept else "worse held out" if one.vetoed else "no gain"
            table.add_row(one.number, decision, one.against, *found[0], f"{one.change.p_value:.4f}", *found[1])
    return table


def _of(found: Evaluations, lang: str) -> Evaluation | None:
    return next((one for one in found if one.lang == lang), None)


def _f1(found: Evaluation | None) -> str:
    return "-" if found is None else f"{100 * found.overall.f1:.2f}"


def _interval(found: Evaluation | None) -> str:
    return interval_text(None if found is None else found.overall.f1_interval)


def markdown(looped: Looped) -> str:
    """Return loop.md."""
    return "\n".join(f"{table.markdown()}\n" for table in tables(looped))
