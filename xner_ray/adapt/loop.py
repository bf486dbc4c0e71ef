"""The aligner's encoder as a training task.

At the start of a part the encoder, as it is then, links the part's pairs; the steps of the part learn these links.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xner_ray.adapt.pairs import Pair
from xner_ray.adapt.recipe import Adaptation, Fit, Model
from xner_ray.align.encoder import Encoder, unit_means
from xner_ray.align.linking import AlignOptions, Padded, align, cosines
from xner_ray.data.links import Links
from xner_ray.errors import RecipeError
from xner_ray.models import network, trainer
from xner_ray.models.e5 import BUILTIN, builtin_folder
from xner_ray.models.hub import quiet
from xner_ray.models.trainer import Checkpoint, Progress, State, autocast, learning
from xner_ray.models.windows import CPU_TOKENS, Splitter, Windows, micro_batches, tensors

Ints = NDArray[np.int64]
_TOKENIZED = 4096  # sentences at once


class Learner:
    """An encoder up to the layers that alignment reads; its layers above `frozen` learn."""

    def __init__(self, settings: Model, device: torch.device) -> None:
        """Load the encoder. RecipeError if the encoder, its layer or `frozen` is not possible."""
        self.device, self.settings = device, settings
        self.layers = Encoder.check(settings.encoder, settings.layer)
        if settings.frozen >= self.layers[-1]:
            raise RecipeError(
                f"model.frozen is {settings.frozen}, but alignment reads layer {self.layers[-1]} "
                f"of {settings.encoder}: nothing would learn; allowed: 0 to {self.layers[-1] - 1}"
            )
        self.name = str(builtin_folder()) if settings.encoder == BUILTIN else settings.encoder
        self.tokenizer, self.module = network.load(self.name, torch.float32)
        self.positions = network.positions_of(self.module, self.tokenizer)
        self.module.requires_grad_(False)
        self.network = network.Network(self.module, self.layers, self.tokenizer)
        stack = next((m for m in self.module.modules() if isinstance(m, nn.ModuleList) and self._is_stack(m)), None)
        if stack is None:
            raise RecipeError(f"model.encoder {settings.encoder!r} has no single list of layers")
        self.learning = list(stack)[settings.frozen : self.layers[-1]]
        for layer in self.learning:
            layer.requires_grad_(True)
        self.module.to(device)

    def _is_stack(self, modules: nn.ModuleList) -> bool:
        return len(modules) == (max(self.layers[-1], 1) if self.network.is_cut else self.network.n_layers)

    def train(self, training: bool = True) -> None:
        """Switch dropout on or off in the layers that learn; elsewhere it stays off."""
        self.module.eval()
        for layer in self.learning:
            layer.train(training)

    def pieces(self, pairs: Sequence[Pair]) -> tuple[Windows, NDArray[np.bool_]]:
        """Return both sides of pairs in subwords, and which pairs are whole.

        Of sentence 2 i and 2 i + 1, which are those of the i-th whole pair, each is one window. A pair is not whole if
        a side has no subwords, or more than the encoder reads.
        """
        split = Splitter(self.tokenizer, self.positions)
        parts = []
        whole = []
        for start in range(0, max(len(pairs), 1), _TOKENIZED):
            windows = split([side for pair in pairs[start : start + _TOKENIZED] for side in pair])
            single = (np.diff(windows.windows_of) == 1).reshape(-1, 2).all(axis=1)
            parts.append(windows.take(np.flatnonzero(np.repeat(single, 2))))
            whole.append(single)
        return Windows.joined(parts), np.concatenate(whole)

    def vectors(self, windows: Windows, chosen: Ints, settings: Fit) -> tuple[Tensor, Tensor]:
        """Return the word vectors of some windows, (B, words, dim), and which of them exist, (B, words)."""
        order = np.argsort(-windows.lengths[chosen], kind="stable")
        own = chosen[order]
        inputs = tensors(*windows.batch(own, self.tokenizer.pad_token_id), self.device)
        with autocast(self.device, settings.dtype):
            states = self.network(inputs)
        _, means, exists = unit_means(states, *windows.read_in(own))
        back = torch.from_numpy(np.argsort(order)).to(self.device)
        return means[back], exists[back]

    def save(self, folder: str) -> None:
        """Write an ordinary Hugging Face folder: the whole model, with the weights that have learnt.

        config.json names the layers that `align.layer: auto` then takes.
        """
        tokenizer, whole = network.load_whole(self.name, torch.float32)
        own = dict(network.encoder_of(whole).named_parameters())
        with torch.no_grad():
            for name, value in learning(self.module).items():
                own[name].copy_(value.cpu())
        setattr(whole.config, network.ALIGN_LAYERS, self.layers)
        with quiet():
            whole.save_pretrained(folder)
            tokenizer.save_pretrained(folder)


@dataclass
class LearnerTask:
    """A learner and its pairs, as a `trainer.Task`; a batch holds the indices of its pairs in the current part.

    sides: both sides of each pair, as `Learner.pieces` returns them.
    """

    model: Learner
    sides: Windows
    adaptation: Adaptation

    def __post_init__(self) -> None:
        settings, self.n_pairs = self.adaptation.fit, len(self.sides) // 2
        self.n_steps = math.ceil(self.n_pairs / settings.batch_pairs)
        # A part is a whole number of steps
        self.part_size = math.ceil(settings.part_pairs / settings.batch_pairs) * settings.batch_pairs
        self.n_parts = math.ceil(self.n_pairs / self.part_size)

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        return [(list(learning(self.model.module).values()), self.adaptation.fit.learning_rate)]

    def batches(self, epoch: int, part: int) -> list[Ints]:
        """Draw the pairs of the part, and link them by the current encoder."""
        settings = self.adaptation.fit
        order = np.random.default_rng([settings.seed, epoch]).permutation(self.n_pairs)
        pairs = order[part * self.part_size : (part + 1) * self.part_size]
        self.part = self.sides.take(_both(pairs))
        self.links = _links(self.model, self.part, self.adaptation)
        numbers = np.arange(len(pairs))
        return [numbers[start : start + settings.batch_pairs] for start in range(0, len(numbers), settings.batch_pairs)]

    def seed(self, part: int) -> int:
        return hash((self.adaptation.fit.seed, part)) % 2**31

    def losses(self, batch: Ints) -> Iterator[Tensor]:
        """Yield the losses of the micro-batches, divided by the number of the batch's pairs."""
        settings = self.adaptation.fit
        longest = self.part.lengths.reshape(-1, 2).max(axis=1)[batch]
        for chosen in micro_batches(2 * longest, settings.micro_batch_tokens):
            pairs = batch[chosen]
            means, exists = self.model.vectors(self.part, np.concatenate([2 * pairs, 2 * pairs + 1]), settings)
            n = len(pairs)
            a, b = (Padded(means[at], exists[at].long(), exists[at]) for at in (slice(0, n), slice(n, 2 * n)))
            wanted = torch.zeros((n, means.shape[1], means.shape[1]), device=means.device)
            for number, pair in enumerate(pairs):
                own = slice(*np.searchsorted(self.links.row, [pair, pair + 1]))
                wanted[number, self.links.source[own], self.links.target[own]] = 1.0
            yield loss(a, b, wanted, self.adaptation.objective.options).sum() / len(batch)

    def entry(self, losses: Sequence[float]) -> dict[str, Any]:
        """Return the number of pairs, their mean loss, and the share of both sides' words that have a link."""
        n_pairs = len(self.part) // 2
        sizes = np.diff([*range(0, n_pairs, self.adaptation.fit.batch_pairs), n_pairs])
        links = (np.stack([self.links.row, words]) for words in (self.links.source, self.links.target))
        n_linked = sum(np.unique(each, axis=1).shape[1] for each in links)
        return {
            "pairs": n_pairs,
            "loss": round(float(np.average(losses, weights=sizes)), 6),
            "words_linked": round(n_linked / len(np.unique(self.part.word)), 4),
        }


def fit(
    learner: Learner,
    sides: Windows,
    adaptation: Adaptation,
    *,
    resume: State | None = None,
    checkpoint: Checkpoint = lambda progress, state: None,
) -> Progress:
    """Train the learner on the pairs; see `trainer.fit`."""
    task = LearnerTask(learner, sides, adaptation)
    return trainer.fit(
        task, adaptation.fit, n_steps=task.n_steps, n_parts=task.n_parts, resume=resume, checkpoint=checkpoint
    )


def _both(pairs: Ints) -> Ints:
    """Return the sentences of pairs: 2 i and 2 i + 1 of pair i."""
    return np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel()


@torch.inference_mode()
def _links(learner: Learner, part: Windows, adaptation: Adaptation) -> Links:
    """Return the links of the pairs by the current encoder without dropout, sorted by pair."""
    learner.train(False)
    found: list[NDArray[np.float32]] = [np.zeros((0, 0), dtype=np.float32)] * len(part)
    budget = adaptation.fit.micro_batch_tokens
    budget = min(budget, CPU_TOKENS) if learner.device.type == "cpu" else budget
    for batch in micro_batches(part.lengths, budget):
        means, exists = learner.vectors(part, batch, adaptation.fit)
        for index, values, own in zip(batch, means.cpu(), exists.cpu(), strict=True):
            found[index] = values[own].numpy()
    return align(found[::2], found[1::2], adaptation.objective.options, device=learner.device).hard(
        adaptation.objective.method
    )


def probabilities(a: Padded, b: Padded, options: AlignOptions) -> tuple[Tensor, Tensor]:
    """Return the probabilities of links, forward and backward, (B, m, n) each; 0 for padding.

    They are those of `align`, but unrounded and with a gradient.
    """
    cosine, norms = cosines(a, b, options)
    logits = cosine if options.similarity == "cosine" else cosine * norms[0][:, :, None] * norms[1][:, None, :]
    mask = a.exists[:, :, None] & b.exists[:, None, :]
    logits = (logits / options.softmax[0]).masked_fill(~mask, -1e9)  # finite: a row of padding has no gradient then
    forward, backward = (torch.softmax(logits, dim).masked_fill(~mask, 0.0) for dim in (2, 1))
    return forward, backward


def loss(a: Padded, b: Padded, links: Tensor, options: AlignOptions) -> Tensor:
    """Return the loss of each pair, (B,), from -1 to 0.

    links: (B, m, n), 1 where two words are linked. The source is the self-training objective of awesome-align (Dou and
    Neubig 2021): minus half the mean probability of the links, over source words forward and target words backward.
    """
    forward, backward = probabilities(a, b, options)
    n_source, n_target = a.exists.sum(1), b.exists.sum(1)
    shares = forward / n_source[:, None, None] + backward / n_target[:, None, None]
    total: Tensor = -0.5 * (links * shares).sum(dim=(1, 2))
    return total
