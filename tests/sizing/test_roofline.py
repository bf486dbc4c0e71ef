"""The roofline: sizes of models as published, and times that behave as memory and arithmetic do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.sizing.roofline import DEVICES, MODELS, decode_step_seconds, encode_seconds, translate_seconds

NLLB = MODELS["facebook/nllb-200-distilled-600M"]
H100 = DEVICES["H100"]


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("facebook/nllb-200-distilled-600M", 0.615e9),
        ("facebook/nllb-200-1.3B", 1.37e9),
        ("facebook/nllb-200-3.3B", 3.34e9),
    ],
)
def test_weights_add_up_to_the_size_that_a_model_is_known_by(name: str, published: float) -> None:
    model = MODELS[name]
    embeddings = model.vocabulary * model.width
    assert model.encoder_weights + model.decoder_weights + embeddings == pytest.approx(published, rel=0.01)


def test_a_step_of_one_row_takes_the_time_of_reading_the_weights() -> None:
    weights = 12 * (8 * 1024**2 + 2 * 1024 * 4096) + 256_206 * 1024
    launches = 12 * 12 * 2.5e-6
    seconds = decode_step_seconds(NLLB, H100, 1, 1, 0, source_tokens=0)
    assert seconds - launches == pytest.approx(2 * weights / (0.6 * 3.35e12), rel=0.01)


def test_a_long_batch_of_the_encoder_takes_the_time_of_its_products() -> None:
    rows, tokens = 4096, 16
    products = 2 * 12 * (4 * 1024**2 + 2 * 1024 * 4096) * rows * tokens
    assert encode_seconds(NLLB, H100, rows, tokens) == pytest.approx(products / (0.4 * 990e12), rel=0.05)


@given(rows=st.integers(1, 4096), beams=st.integers(1, 5), so_far=st.integers(0, 200), source=st.integers(1, 200))
def test_more_work_never_takes_less_time_and_a_batch_less_than_its_rows(
    rows: int, beams: int, so_far: int, source: int
) -> None:
    step = decode_step_seconds(NLLB, H100, rows, beams, so_far, source_tokens=source)
    assert decode_step_seconds(NLLB, H100, rows + 1, beams, so_far, source_tokens=source) >= step
    assert decode_step_seconds(NLLB, H100, rows, beams + 1, so_far, source_tokens=source) >= step
    assert decode_step_seconds(NLLB, H100, rows, beams, so_far + 1, source_tokens=source) >= step
    assert decode_step_seconds(NLLB, H100, rows, beams, so_far, source_tokens=source + 1) >= step
    assert step <= rows * decode_step_seconds(NLLB, H100, 1, beams, so_far, source_tokens=source) * (1 + 1e-9)


def test_a_translation_is_its_encoding_and_a_step_a_token() -> None:
    whole = translate_seconds(NLLB, H100, 64, 4, source_tokens=40, target_tokens=2)
    steps = [decode_step_seconds(NLLB, H100, 64, 4, n, source_tokens=40) for n in (0, 1)]
    assert whole == pytest.approx(encode_seconds(NLLB, H100, 64, 40) + sum(steps))


def test_a_cut_encoder_takes_its_share_of_layers() -> None:
    assert encode_seconds(NLLB, H100, 64, 40, layers=6) == pytest.approx(encode_seconds(NLLB, H100, 64, 40) / 2)


def test_a_device_with_better_figures_is_faster() -> None:
    devices = sorted(DEVICES.values(), key=lambda device: device.bandwidth, reverse=True)
    assert [device.name for device in devices] == ["H200", "H100", "A100", "A10G", "L4"]
    times = [translate_seconds(NLLB, device, 512, 1, source_tokens=40, target_tokens=40) for device in devices]
    assert times == sorted(times)
