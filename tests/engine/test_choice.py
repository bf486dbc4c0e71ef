"""Which executor runs a recipe."""

from typing import Any

import pytest

from xner_ray.engine import choice
from xner_ray.engine.choice import Choice, before_the_scan, by_work, for_tasks, stated
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: other tests of this one may run Ray. Two cores."""
    monkeypatch.setattr(choice, "ray_runs", lambda: False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})


def _recipe(*overrides: str, **engine: Any) -> Recipe:
    section = {"input": {"path": "a.conll"}, "targets": ["spa_Latn"], "engine": engine}
    return load_recipe(section, ["translate.model=tiny-nllb", *overrides])


def test_what_the_user_says_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stated(_recipe()) is None
    assert stated(_recipe(executor="inline")) == Choice("inline", "engine.executor is inline")
    assert stated(_recipe(executor="ray")) == Choice("ray", "engine.executor is ray")
    assert stated(_recipe(address="auto")) == Choice("ray", "engine.address is auto")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert stated(_recipe()) == Choice("ray", "RAY_ADDRESS is set")
    assert stated(_recipe(executor="inline")) == Choice("inline", "engine.executor is inline")


def test_a_ray_that_runs_here_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ray_runs", lambda: True)
    assert stated(_recipe()) == Choice("ray", "this process runs Ray already")


def test_large_inputs_and_stated_workers_need_no_look_at_the_rows() -> None:
    assert before_the_scan(_recipe(), 10_000) is None
    assert before_the_scan(_recipe(), 80_000_000) == Choice("ray", "the input has 80 MB")
    assert before_the_scan(_recipe("align.workers=2"), 10) == Choice("ray", "align.workers is set")
    assert before_the_scan(_recipe("align.memory_gb=2"), 10) == Choice("ray", "align.memory_gb is set")
    assert before_the_scan(_recipe("align.workers=1"), 10) is None


def test_small_work_stays_here_and_large_work_is_shared() -> None:
    small, large = (by_work(_recipe(), rows, n_units=8) for rows in (480, 100_000))
    assert small.name == "inline"
    assert small.why == "about 31 s of work for one worker; Ray takes longer to start than it would save"
    assert large.name == "ray"
    assert large.why == "about 6,400 s of work for one worker, shared by 2"


def test_one_unit_is_work_for_one_worker() -> None:
    assert by_work(_recipe(), 100_000, n_units=1) == Choice("inline", "there is work for one worker only")


def test_a_real_translator_is_worth_sharing_sooner() -> None:
    assert by_work(_recipe(), 200, n_units=8).name == "inline"
    assert by_work(_recipe("translate.model=facebook/nllb-200-distilled-600M"), 200, n_units=8).name == "ray"


def test_tasks_without_models() -> None:
    assert for_tasks(_recipe(), 10_000).name == "inline"
    assert for_tasks(_recipe(), 1_000_000).name == "ray"
    assert for_tasks(_recipe(executor="ray"), 10).name == "ray"
