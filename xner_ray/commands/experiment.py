"""The file of `cross-validate`: runs, students trained on them, and the gold that they are scored on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from xner_ray.errors import did_you_mean
from xner_ray.recipe.data_set import DataSet, check_controls, refuse_names
from xner_ray.recipe.decides import Section
from xner_ray.recipe.input import LanguageCode
from xner_ray.train.recipe import Source

TAGGED = "tagged"  # a student that is a run's own entities
_WHOLE = {
    "evaluate": "is given once, for the whole experiment",
    "folds": "is given once, for the whole experiment",
    "seed": "the experiment has seeds",
    "resources": "a student of an experiment is trained on one core of a CPU",
}


class Experiment(Section):
    """An experiment file.

    runs: name -> a recipe file, projected first. students: name -> the data, and what else of a student's recipe is its
    own; if the data contain `{lang}`, one student is trained for each of `languages`. A student `{tagged: RUN}` is not
    trained: the run's own entities are its predictions, as of a tagger straight on the words (projector: transfer).
    """

    # name: recipe file, or {recipe, settings}; projected first
    runs: dict[str, DataSet] = Field(default_factory=dict)
    languages: Annotated[list[LanguageCode], Field(min_length=1)]  # with {lang} in data, a student for each
    students: Annotated[dict[str, dict[str, Any]], Field(min_length=2)]  # name: data, and what else is its own
    student: dict[str, Any] = Field(default_factory=dict)  # keys of a student's recipe, for all students
    evaluate: Annotated[list[Source], Field(min_length=1)]  # with gold, in `languages`
    # Of documents; null where `evaluate` is a test set of its own: each student learns from all, once a seed
    folds: Annotated[int, Field(ge=2)] | None = 5
    seeds: Annotated[list[int], Field(min_length=1, default_factory=lambda: [0])]  # of trainings
    address: str = "local"  # of Ray
    against: str | None = None  # the student that the others are compared with; None: the first
    controls: dict[str, str] = Field(default_factory=dict)  # student -> the same, taught with exchanged pictures
    domains: dict[str, str] = Field(default_factory=dict)  # name -> pattern of documents' ids; scores are by domain too

    @model_validator(mode="after")
    def _fits(self) -> Experiment:
        refuse_names((*self.runs, *self.students))
        if self.against is not None and self.against not in self.students:
            raise ValueError(f"against: {self.against!r} is no student{did_you_mean(self.against, self.students)}")
        check_controls(self.controls, list(self.students), self.against or next(iter(self.students)), "student")
        lists: dict[str, list[Any]] = {"seeds": self.seeds, "languages": self.languages}
        for key, values in lists.items():
            if twice := [value for value, n in Counter(values).items() if n > 1]:
                raise ValueError(f"{key}: {twice[0]} is listed twice")
        for name, student in self.students.items():
            if TAGGED in student:
                self._check_tagged(name, student)
            given = merged(self.student, student)
            if wrong := sorted(_WHOLE.keys() & {*given, *(given.get("fit") or {})}):
                raise ValueError(f"students.{name}: {wrong[0]}: {_WHOLE[wrong[0]]}; leave it out here")
            if self.folds is None and TAGGED not in student:
                self._refuse_tests_in(name, given.get("data") or ())
        return self

    def _refuse_tests_in(self, name: str, data: Any) -> None:
        """Refuse data that are scored on, too. What is not a list of sources is refused with the student's recipe."""
        tests = [source.run or (source.input and source.input.path) for source in self.evaluate]
        for source in data if isinstance(data, list) else ():
            own = [source.get("run"), (source.get("input") or {}).get("path")] if isinstance(source, Mapping) else []
            if shared := [place for place in own if place is not None and place in tests]:
                raise ValueError(
                    f"students.{name}: it would learn from {shared[0]}, which evaluate scores it on; give folds, so "
                    "that each document is in one of them, or another test set"
                )

    def _check_tagged(self, name: str, student: Mapping[str, Any]) -> None:
        if others := sorted(student.keys() - {TAGGED}):
            raise ValueError(f"students.{name}: {others[0]}: what is tagged is not trained; leave it out")
        if not isinstance(student[TAGGED], str):
            raise ValueError(f"students.{name}.{TAGGED}: a run, by its name or folder")


def merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a student's own keys into those of all students, at every depth; lists are replaced."""
    result = {**common, **own}
    for key in common.keys() & own.keys():
        if isinstance(common[key], Mapping) and isinstance(own[key], Mapping):
            result[key] = merged(common[key], own[key])
    return result
