"""A training of an experiment, and where its predictions are."""

from __future__ import annotations

from dataclasses import dataclass

from xner_ray.train.recipe import Training

Place = tuple[str, str | None, int]  # student, language, seed


@dataclass(frozen=True)
class Item:
    """One training. lang: None for a student of all languages. path: of its predictions. encoder: its identity.

    tagged: nothing is trained, the entities of the run in `data` are the predictions.
    """

    student: str
    lang: str | None
    training: Training
    path: str
    encoder: str
    tagged: bool = False

    @property
    def name(self) -> str:
        """Return what messages call it."""
        folds, lang = self.training.folds, f", {self.lang}" if self.lang else ""
        return f"{self.student}{lang}, seed {self.training.fit.seed}" + (f", fold {folds.held_out}" if folds else "")

    @property
    def place(self) -> Place:
        """Return what its predictions are counted under, with those of the other folds."""
        return self.student, self.lang, self.training.fit.seed
