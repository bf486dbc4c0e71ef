"""The file of `cross-validate`: runs, students trained on them, and the gold that they are scored on."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from xner_ray.errors import RecipeError, did_you_mean
from xner_ray.recipe.data_set import DataSet, check_controls, refuse_names
from xner_ray.recipe.decides import Section
from xner_ray.recipe.input import LanguageCode
from xner_ray.recipe.load import checked, read_mapping
from xner_ray.recipe.settings import overridden
from xner_ray.train.recipe import Source, Training

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
    # name: data, and what else is its own; or {tagged: RUN}: the run's own entities, and nothing is trained
    students: Annotated[dict[str, dict[str, Any]], Field(min_length=2)]
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
        return self

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


def evaluated(experiment: Experiment, langs: Sequence[str]) -> list[dict[str, Any]]:
    """Return the sources of gold for these languages, each language once."""
    found = []
    left = list(langs)
    for source in experiment.evaluate:
        plain = source.model_dump(mode="json", exclude_defaults=True)
        own = experiment.languages if source.langs is None else source.langs
        own = [str(source.input.lang)] if source.input is not None else own
        if twice := [lang for lang in own if lang in langs and lang not in left]:
            raise RecipeError(f"evaluate: {twice[0]} is in two sources; give langs, so that each language is in one")
        own = [lang for lang in left if lang in own]
        left = [lang for lang in left if lang not in own]
        if own:
            found.append(plain if source.input is not None else {**plain, "langs": own})
    if left:
        raise RecipeError(f"evaluate: no source has gold of {left[0]}, which is one of languages")
    return found


def refuse_tests_in(training: Training) -> None:
    """Raise RecipeError if a student would learn, or stop, by what it is scored on."""

    def places(sources: Sequence[Source]) -> set[tuple[str, str]]:
        found = [
            (json.dumps(one.run or (one.input and one.input.path)), split) for one in sources for split in one.splits
        ]
        return {(os.path.normpath(place), split) for place, split in found}

    if shared := places([*training.data, *training.validation]) & places(training.evaluate):
        raise RecipeError(
            f"it would learn from {json.loads(min(shared)[0])}, which evaluate scores it on; give folds, so that each "
            "document is in one of them, or another test set"
        )


def load_experiment(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Experiment:
    """Load and check an experiment file. RecipeError names the wrong key."""
    shape = "an experiment is a mapping of runs, languages, students and evaluate"
    return checked(Experiment, overridden(read_mapping(Path(path), shape), overrides), os.fspath(path), overrides)
