"""Lines of progress."""

from __future__ import annotations

from pathlib import Path

from students import CPU, TOY, row, run, training
from tiny_encoders import tiny

from xner_ray.train.student import Watch, train


def test_lines_come_now_and_then_with_the_rate_since_the_last_one() -> None:
    now, said = [0.0], list[str]()
    watch = Watch(said.append, n_steps=100, epochs=3, sentences=1600, clock=lambda: now[0])
    for number in range(150):
        now[0] += 0.25 if number < 100 else 0.5
        watch.stepped(1.0 if number < 5 else 0.5)
        if number == 99:
            now[0] += 100  # a checkpoint takes its time
            watch.checkpoint({"epoch": 1.0, "loss": 0.52, "f1": 0.6})
    assert said[:3] == [
        "the first step is done: loss 1.0000",
        "epoch 1 of 3, step 5 of 100: loss 1.0000, 64 sentences/s, 0:01:14 left",
        "epoch 1 of 3, step 45 of 100: loss 0.5000, 64 sentences/s, 0:01:04 left",
    ]
    assert said[4:] == [
        "epoch 1 of 3: loss 0.5200, F1 of validation 60.00",
        "epoch 2 of 3, step 20 of 100: loss 0.5000, 32 sentences/s, 0:01:30 left",
        "epoch 2 of 3, step 40 of 100: loss 0.5000, 32 sentences/s, 0:01:20 left",
    ]


def test_a_resumed_training_counts_on() -> None:
    said = list[str]()
    now = iter(range(0, 100, 2))
    watch = Watch(said.append, n_steps=10, epochs=2, sentences=20, done=10, clock=lambda: float(next(now)))
    watch.stepped(0.5)
    watch.stepped(0.5)
    assert said[1:] == ["epoch 2 of 2, step 2 of 10: loss 0.5000, 1 sentences/s, 0:00:16 left"]


def test_a_training_says_what_it_does(tmp_path: Path) -> None:
    path = run(tmp_path / "toy", {"spa_Latn": [row(words, *spans) for words, spans in TOY]})
    said = list[str]()
    encoder = tiny(tmp_path, "bert")
    recipe = training(
        {"run": path},
        evaluate=[{"run": path}],
        model={"encoder": encoder, "layers": 3, "frozen": 1},
        fit={"epochs": 2, "batch_sentences": 4},
    )
    train(recipe, samples=20, device=CPU, say=said.append)
    assert said[:3] == [
        "reads the sentences of 1 source",
        f"8 of 8 sentences are learnt, with the labels LOC, PER; loads the encoder {encoder}",
        "2 epochs of 2 steps with 4 sentences each",
    ]
    assert said[-1] == "labels the 8 sentences of evaluate"
    assert [line.split(":")[0] for line in said[3:-1] if line.startswith("epoch") and "step" not in line] == [
        "epoch 1 of 2",
        "epoch 2 of 2",
    ]
