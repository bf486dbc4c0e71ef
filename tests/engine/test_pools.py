from typing import Any

import pytest

from xner_ray.engine.pools import (
    READ_CPUS,
    Capacity,
    Group,
    assumed,
    bundles,
    group,
    needs,
    readers,
    shrink,
    without_gpus,
)
from xner_ray.errors import RecipeError
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe

LAPTOP = Capacity(cpus=2, gpus=0, local=True, memory_gb=16, node=(2, 0, 16))
GPU_MACHINE = Capacity(cpus=8, gpus=1, local=True)
CLUSTER = Capacity(cpus=64, gpus=8, local=False)


def _recipe(**sections: Any) -> Recipe:
    return load_recipe({"input": {"path": "a.conll"}, "targets": ["spa_Latn"], "tag": {"engine": "spacy"}, **sections})


def test_a_laptop_has_one_pool_that_leaves_room_to_read() -> None:
    groups = group(_recipe(), LAPTOP, 100)
    assert [g.stages for g in groups] == [("translate", "tag", "target_tag", "align", "match")]
    assert groups[0].workers == (2, 2)
    assert sum(g.workers[1] * g.cpus for g in groups) + READ_CPUS <= LAPTOP.cpus


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 16])
@pytest.mark.parametrize("gpus", [0, 1])
def test_default_pools_always_fit(cpus: int, gpus: int) -> None:
    sections = {s: {"gpus": 1} for s in ("translate", "tag", "align")} if gpus else {"match": {"threads": 2}}
    for n_units in (1, 3, 1000):
        groups = group(_recipe(**sections), Capacity(cpus, gpus, local=True), n_units)
        assert sum(g.workers[1] * g.cpus for g in groups) + READ_CPUS <= cpus
        assert all(g.workers[1] <= max(1, n_units) for g in groups)


@pytest.mark.parametrize(
    ("gpus", "translate", "align", "workers"),
    [
        (4, 1, 1, [2, 2]),
        (3, 1, 1, [2, 1]),
        (2, 1, 1, [1, 1]),
        (4, 2, 1, [1, 2]),
        (3, 2, 0.5, [1, 2]),
        (2, 0.6, 0.4, [1, 2]),
        (3, 0.6, 0.6, [2, 1]),
        (1, 0.5, 0.25, [1, 2]),
    ],
)
def test_pools_on_one_machine_share_its_gpus(gpus: int, translate: float, align: float, workers: list[int]) -> None:
    """All their workers start at once: a pool that took all GPUs would let the next one wait until it has ended."""
    recipe = _recipe(translate={"gpus": translate}, align={"gpus": align})
    pools = [pool for pool in group(recipe, Capacity(16, gpus, local=True), 1000) if pool.gpus]
    assert [pool.workers for pool in pools] == [(number, number) for number in workers]
    most = [pool.workers for pool in group(recipe, Capacity(16, gpus, local=False), 1000) if pool.gpus]
    assert most[0] == (1, gpus * int(1 / translate) if translate < 1 else gpus // translate), "a cluster's pools grow"


def test_pools_of_a_stated_size_leave_the_other_gpus_to_the_rest() -> None:
    recipe = _recipe(translate={"gpus": 1, "workers": 3}, align={"gpus": 1})
    assert [pool.workers for pool in group(recipe, Capacity(16, 8, local=True), 1000)[::2]] == [(3, 3), (5, 5)]
    assert [pool.workers for pool in group(recipe, Capacity(16, 8, local=True), 2)[::2]] == [(3, 3), (2, 2)]


def test_one_gpu_serves_four_stages_in_one_actor() -> None:
    groups = group(
        _recipe(translate={"gpus": 1}, tag={"engine": "spacy", "gpus": 1}, align={"gpus": 1}), GPU_MACHINE, 100
    )
    assert [(g.stages, g.gpus) for g in groups] == [
        (("translate", "tag", "target_tag", "align"), 1.0),
        (("match",), 0.0),
    ]
    assert groups[0].workers == (1, 1)


def test_a_cluster_scales_from_one() -> None:
    groups = group(_recipe(translate={"gpus": 1}, tag={"engine": "spacy", "gpus": 1}, align={"gpus": 1}), CLUSTER, 1000)
    assert groups[0].workers == (1, 8)


def test_fractional_gpus_make_more_workers() -> None:
    sections = {s: {"gpus": 0.25} for s in ("translate", "align")} | {"tag": {"engine": "spacy", "gpus": 0.25}}
    assert group(_recipe(**sections), GPU_MACHINE, 1000)[0].workers == (4, 4)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"align": {"gpus": 1}}, "need at least 1 GPUs (target_tag+align: 1 x 1), but this machine has 0; set gpus: 0"),
        ({"translate": {"engine": "llm", "model": "m", "gpus": 1}}, "need at least 1 GPUs (translate: 1 x 1)"),
        ({"align": {"workers": 3}}, "need at least 4.80 CPUs"),
        ({"align": {"cpus": 4}}, "align.cpus is 4 for one worker, but the largest node of the cluster has 2"),
        ({"align": {"cpus": 1.5}}, "but this machine has 2; lower workers or cpus of a stage"),
        (
            {"align": {"memory_gb": 100}},
            "memory_gb: the recipe's stages need at least 100 GB, but this machine has 16.0",
        ),
    ],
)
def test_what_the_cluster_can_never_give_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        group(_recipe(**sections), LAPTOP, 10)
    assert message in str(error.value)


def test_two_pools_that_each_want_the_only_gpu_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"at least 2 GPUs.*share an actor"):
        group(_recipe(translate={"gpus": 1}, align={"gpus": 1}), GPU_MACHINE, 10)


def test_an_autoscaler_is_asked_instead_of_refusing() -> None:
    """Head without CPUs, nothing started yet: nothing is refused here, and minima are what the autoscaler is asked."""
    empty = Capacity(0, 0, local=False, memory_gb=2, node=(0, 0, 2), autoscaled=True)
    gpu = {"gpus": 1, "workers": (2, 4), "memory_gb": 3}
    recipe = _recipe(translate=gpu, tag={"engine": "spacy", **gpu}, align=gpu, match={"workers": 1})
    groups = group(recipe, empty, 100)
    assert [(g.stages, g.workers) for g in groups] == [
        (("translate", "tag", "target_tag", "align"), (2, 4)),
        (("match",), (1, 1)),
    ]
    gpu_bundle = {"CPU": 0.95, "GPU": 1.0, "memory": 3e9}
    assert bundles(groups) == [gpu_bundle, gpu_bundle, {"CPU": 0.95}, {"CPU": READ_CPUS}]
    assert (
        needs(groups)
        == "2.85 CPUs, 2 GPUs, 6 GB of memory (translate+tag+target_tag+align: 2 workers, match: 1 workers)"
    )
    assert not empty.holds(groups)
    unstated = group(_recipe(translate={"gpus": 1}), empty, 300)
    assert [(g.workers, g.cpus) for g in unstated] == [((1, 300), 0.95)] * 2, "they grow as far as the cluster does"
    assert Capacity(3, 2, local=False, memory_gb=8, node=(2, 1, 4), autoscaled=True).holds(groups)
    assert not Capacity(3, 2, local=False, memory_gb=8, node=(2, 1, 2), autoscaled=True).holds(groups), "one by one"
    assert not Capacity(3, 1, local=False, memory_gb=8, node=(2, 1, 4), autoscaled=True).holds(groups)


def test_shrink_never_leaves_an_idle_worker() -> None:
    groups = group(_recipe(), Capacity(16, 0, local=True), 100)
    assert shrink(groups, 3)[0].workers == (3, 3)


@pytest.mark.parametrize(("workers", "most"), [(1, 2), (2, 2), (5, 3), ((1, 64), 32), ((1, 640), 64)])
def test_reads_are_bounded_by_the_first_pool(workers: int | tuple[int, int], most: int) -> None:
    recipe = _recipe(translate={"workers": workers}, match={"workers": 100})
    assert readers(group(recipe, Capacity(cpus=1000, gpus=0, local=False), 10_000)) == most


def test_a_gpu_that_is_left_out_takes_the_workers_with_it() -> None:
    def pool(workers: tuple[int, int], gpus: float) -> Group:
        return Group(("align",), workers, 1.0, gpus, 1, None)

    assert without_gpus([pool((4, 4), 1)], 1) == [pool((3, 3), 1)]
    assert without_gpus([pool((1, 8), 0.25), pool((1, 2), 0)], 1) == [pool((1, 4), 0.25), pool((1, 2), 0)]
    assert without_gpus([pool((2, 2), 1), pool((6, 6), 1)], 2) == [pool((2, 2), 1), pool((4, 4), 1)]
    assert without_gpus([pool((1, 1), 1)], 1) is None


def test_no_more_workers_match_than_gpus_can_feed() -> None:
    recipe = _recipe(translate={"gpus": 1}, tag={"engine": "spacy", "gpus": 1}, align={"gpus": 1})
    eight = group(recipe, assumed("cpus=192,gpus=8,memory_gb=2000"), n_units=5_000)
    assert [(pool.stages[-1], pool.workers[1]) for pool in eight] == [("align", 8), ("match", 4)]
    many = group(recipe, assumed("cpus=192,gpus=8,memory_gb=2000,nodes=20"), n_units=5_000)
    assert [pool.workers[1] for pool in many] == [160, 64]
    stated = recipe.model_copy(update={"match": recipe.match.model_copy(update={"workers": 40})})
    assert group(stated, assumed("cpus=192,gpus=8"), n_units=5_000)[1].workers == (40, 40)


@pytest.mark.parametrize(
    "text", ["", "8", "gpus=8", "cpus=0", "cpus=8,gpu=1", "cpus=many", "cpus=4,nodes=0", "cpus=-4"]
)
def test_nodes_that_are_assumed_are_said_in_one_way(text: str) -> None:
    with pytest.raises(RecipeError, match="write it as cpus=64,gpus=8"):
        assumed(text)


def _chats(gpus: float, shares: dict[str, float], **more: Any) -> Recipe:
    """A language model translates and tags, the default share of memory where none is given."""
    section = {"engine": "llm", "model": "m", "gpus": gpus, **more}
    given = {name: {"llm": {"gpu_memory_share": share}} for name, share in shares.items()}
    return _recipe(
        translate={**section, **given.get("translate", {})},
        tag={**section, "labels": {"PER": None}, **given.get("tag", {})},
        align={"gpus": gpus, **more},
    )


@pytest.mark.parametrize(
    ("recipe", "capacity", "message"),
    [
        (_chats(1, {}), GPU_MACHINE, "1.7 of the memory of one device (translate 0.85, tag 0.85; 1 worker on it)"),
        (
            _chats(1, {"tag": 0.6}),
            CLUSTER,
            "1.45 of the memory of one device (translate 0.85, tag 0.6; 1 worker on it)",
        ),
        (_chats(1, {"translate": 0.5, "tag": 0.4}), GPU_MACHINE, None),
        (_chats(0.5, {"translate": 0.25, "tag": 0.2}), GPU_MACHINE, None),
        (_chats(0.5, {"translate": 0.3, "tag": 0.2}), GPU_MACHINE, "1 of the memory of one device"),
        (_chats(0.5, {"translate": 0.3, "tag": 0.2}, workers=1), GPU_MACHINE, None),
        (_chats(0.5, {"translate": 0.3, "tag": 0.2}), CLUSTER, "(translate 0.3, tag 0.2; 2 workers on it)"),
        (_chats(2, {"translate": 0.5, "tag": 0.5}), CLUSTER, "1 of the memory of one device"),
        (_chats(0, {}), LAPTOP, None),
        (
            _chats(0, {"translate": 0.3, "tag": 0.2}, workers=2),
            GPU_MACHINE,
            "(translate 0.3, tag 0.2; 2 workers on it)",
        ),
        (_chats(0, {"translate": 0.2, "tag": 0.2}, workers=2), GPU_MACHINE, None),
    ],
)
def test_language_models_of_one_device_leave_a_tenth_of_its_memory(
    recipe: Recipe, capacity: Capacity, message: str | None
) -> None:
    if message is None:
        assert group(recipe, capacity, 100)
        return
    with pytest.raises(RecipeError) as error:
        group(recipe, capacity, 100)
    assert message in str(error.value) and "translate.llm.gpu_memory_share: vLLM would take" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_in_this_process_has_all_its_language_models_on_one_device() -> None:
    here = Capacity(cpus=8, gpus=1, local=True, in_process=True)
    apart = _recipe(
        translate={"engine": "llm", "model": "m", "gpus": 0.5, "threads": 2},
        tag={"engine": "llm", "model": "m", "gpus": 0.5, "labels": {"PER": None}, "llm": {"gpu_memory_share": 0.6}},
    )
    with pytest.raises(RecipeError, match=r"1\.025 of the memory of one device \(translate 0\.425, tag 0\.6"):
        group(apart, here, 100)
