"""Times of models on devices that are not at hand, by a roofline: the slower of memory and arithmetic, and launches.

A part of a model reads its weights once, in 16 bits, and multiplies them with every token, two operations a weight. The
shares of a device's published figures that real kernels reach (`BANDWIDTH_SHARE`, `FLOPS_SHARE`) are assumptions, so a
time is a simulation and no measurement. The host's work is in none of it.
"""

from __future__ import annotations

from dataclasses import dataclass

BANDWIDTH_SHARE, FLOPS_SHARE = 0.6, 0.4
LAUNCH_S = 2.5e-6
"""Seconds from one kernel to the next where the host keeps ahead of the device."""

KERNELS_A_LAYER = 12
_BYTES = 2  # of a weight, a state, a cached key or value
# Bytes that move for one logit: written and read in 16 bits, then as float32 written and read for the largest; with
# beams also the log-softmax, the sums with the beams' scores, and the choice among these.
_LOGIT_BYTES, _LOGIT_BYTES_BEAMS = 12, 32
# Each step appends to the cache by copying it (one reading, one writing) and attends to it (one reading); beams are
# put in their new order by another copy, which takes the source's keys and values along.
_CACHE_PASSES, _ORDER_PASSES = 3, 2


@dataclass(frozen=True)
class Device:
    """A GPU by its published figures: bytes a second of its memory, 16-bit dense operations a second."""

    name: str
    bandwidth: float
    flops: float
    launch_s: float = LAUNCH_S

    def seconds(self, n_bytes: float, n_flops: float, n_kernels: float) -> float:
        """Return the time of kernels that together move so many bytes and take so many operations."""
        moving, computing = n_bytes / (BANDWIDTH_SHARE * self.bandwidth), n_flops / (FLOPS_SHARE * self.flops)
        return max(moving, computing) + n_kernels * self.launch_s


@dataclass(frozen=True)
class Model:
    """The shape of a transformer; decoder_layers and vocabulary are 0 for an encoder alone."""

    name: str
    encoder_layers: int
    width: int
    inner: int
    decoder_layers: int = 0
    vocabulary: int = 0

    @property
    def encoder_weights(self) -> int:
        """Return the weights of the encoder's layers: four projections of attention, and the two of the inner layer."""
        return self.encoder_layers * (4 * self.width**2 + 2 * self.width * self.inner)

    @property
    def decoder_weights(self) -> int:
        """Return the weights of the decoder's layers, which attend twice."""
        return self.decoder_layers * (8 * self.width**2 + 2 * self.width * self.inner)


DEVICES = {
    device.name: device
    for device in (
        Device("H200", 4.80e12, 990e12),
        Device("H100", 3.35e12, 990e12),
        Device("A100", 1.55e12, 312e12),  # 40 GB
        Device("L4", 0.30e12, 121e12),
        Device("A10G", 0.60e12, 70e12),
    )
}

MODELS = {
    model.name: model
    for model in (
        Model("facebook/nllb-200-distilled-600M", 12, 1024, 4096, 12, 256_206),
        Model("facebook/nllb-200-distilled-1.3B", 24, 1024, 8192, 24, 256_206),
        Model("facebook/nllb-200-1.3B", 24, 1024, 8192, 24, 256_206),
        Model("facebook/nllb-200-3.3B", 24, 2048, 8192, 24, 256_206),
        Model("FacebookAI/xlm-roberta-base", 12, 768, 3072),
        Model("FacebookAI/xlm-roberta-large", 24, 1024, 4096),
        Model("FacebookAI/xlm-roberta-large-finetuned-conll03-english", 24, 1024, 4096),
        Model("google-bert/bert-base-multilingual-cased", 12, 768, 3072),
        Model("builtin", 12, 384, 1536),  # multilingual-e5-small
    )
}


def encode_seconds(model: Model, device: Device, rows: int, tokens: int, layers: int | None = None) -> float:
    """Return the time of one pass of the encoder over `rows` sentences of `tokens` padded tokens.

    layers: how many of them run, where a model is cut; None: all.
    """
    layers = model.encoder_layers if layers is None else layers
    share = layers / model.encoder_layers
    weights = model.encoder_weights * share
    states = rows * tokens * model.width * layers
    # Attention: the products of all pairs of tokens, and with the values. Each layer reads and writes its states.
    flops = 2 * weights * rows * tokens + 4 * states * tokens
    return device.seconds(_BYTES * (weights + 2 * states), flops, KERNELS_A_LAYER * layers)


def decode_step_seconds(
    model: Model, device: Device, rows: int, beams: int, tokens_so_far: int, *, source_tokens: int
) -> float:
    """Return the time of one step of decoding: one token more for each of `rows` sentences with `beams` beams.

    tokens_so_far: tokens in the cache of each beam; source_tokens: padded tokens of each source sentence.
    """
    lines = rows * beams
    own, source = (2 * lines * n * model.width * model.decoder_layers for n in (tokens_so_far, source_tokens))
    passes = own * _CACHE_PASSES + source + (own + source) * (_ORDER_PASSES if beams > 1 else 0)
    projection = model.vocabulary * model.width
    logits = lines * model.vocabulary * (_LOGIT_BYTES if beams == 1 else _LOGIT_BYTES_BEAMS)
    n_bytes = _BYTES * (model.decoder_weights + projection + passes) + logits
    flops = 2 * lines * (model.decoder_weights + projection) + 2 * (own + source)
    return device.seconds(n_bytes, flops, KERNELS_A_LAYER * model.decoder_layers)


def translate_seconds(
    model: Model, device: Device, rows: int, beams: int, *, source_tokens: int, target_tokens: int
) -> float:
    """Return the time of translating `rows` sentences in one batch: one pass of the encoder, and a step a token."""
    steps = (
        decode_step_seconds(model, device, rows, beams, n, source_tokens=source_tokens) for n in range(target_tokens)
    )
    return encode_seconds(model, device, rows, source_tokens) + sum(steps)
