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
from xner_ray.align.encoder import BUILTIN, Encoder, unit_means
from xner_ray.align.linking import AlignOptions, Padded, align, cosines
from xner_ray.data.links import Links
from xner_ray.errors import RecipeError
from xner_ray.models import network, trainer
from xner_ray.models.e5 import builtin_folder
from xner_ray.models.hub import quiet
from xner_ray.models.trainer import Checkpoint, Progress, State, autocast, learning
from xner_ray.models.windows import CPU_TOKENS, Window, micro_batches, padded, windowed

Ints = NDArray[np.int64]
Sides = tuple[Window, Window]
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

    def pieces(self, pairs: Sequence[Pair]) -> list[Sides | None]:
        """Return both sides of each pair in subwords; None if a side has none, or more than the encoder reads."""
        result: list[Sides | None] = []
        for start in range(0, len(pairs), _TOKENIZED):
            chunk = pairs[start : start + _TOKENIZED]
            sides = [windowed(self.tokenizer, [pair[number] for pair in chunk], self.positions) for number in (0, 1)]
            result += [(a[0], b[0]) if len(a) == len(b) == 1 else None for a, b in zip(*sides, strict=True)]
        return result

    def vectors(self, pieces: Sequence[Window], settings: Fit) -> tuple[Tensor, Tensor]:
        """Return the word vectors of sentences, (B, words, dim), and which of them exist, (B, words)."""
        order = sorted(range(len(pieces)), key=lambda index: -len(pieces[index].ids))
        batch = [pieces[index] for index in order]
        with autocast(self.device, settings.dtype):
            states = self.network(padded([each.ids for each in batch], self.tokenizer.pad_token_id, self.device))
        _, means, exists = unit_means(states, [piece.of_words() for piece in batch])
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
    """A learner and its pairs, as a `trainer.Task`; a batch holds the indices of its pairs in the current part."""

    model: Learner
    sides: Sequence[Sides]
    adaptation: Adaptation

    def __post_init__(self) -> None:
        settings = self.adaptation.fit
        self.n_steps = math.ceil(len(self.sides) / settings.batch_pairs)
        # A part is a whole number of steps
        self.part_size = math.ceil(settings.part_pairs / settings.batch_pairs) * settings.batch_pairs
        self.n_parts = math.ceil(len(self.sides) / self.part_size)

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        return [(list(learning(self.model.module).values()), self.adaptation.fit.learning_rate)]

    def batches(self, epoch: int, part: int) -> list[Ints]:
        """Draw the pairs of the part, and link them by the current encoder."""
        settings = self.adaptation.fit
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(self.sides))
        self.part = [self.sides[index] for index in order[part * self.part_size : (part + 1) * self.part_size]]
        self.links = _links(self.model, self.part, self.adaptation)
        numbers = np.arange(len(self.part))
        return [numbers[start : start + settings.batch_pairs] for start in range(0, len(numbers), settings.batch_pairs)]

    def seed(self, part: int) -> int:
        return hash((self.adaptation.fit.seed, part)) % 2**31

    def losses(self, batch: Ints) -> Iterator[Tensor]:
        """Yield the losses of the micro-batches, divided by the number of the batch's pairs."""
        settings = self.adaptation.fit
        longest = np.array([max(len(side.ids) for side in self.part[pair]) for pair in batch])
        for chosen in micro_batches(2 * longest, settings.micro_batch_tokens):
            pairs = batch[chosen]
            means, exists = self.model.vectors([self.part[p][side] for side in (0, 1) for p in pairs], settings)
            n = len(pairs)
            a, b = (Padded(means[at], exists[at].long(), exists[at]) for at in (slice(0, n), slice(n, 2 * n)))
            wanted = torch.zeros((n, means.shape[1], means.shape[1]), device=means.device)
            for number, pair in enumerate(pairs):
                own = slice(*np.searchsorted(self.links.row, [pair, pair + 1]))
                wanted[number, self.links.source[own], self.links.target[own]] = 1.0
            yield loss(a, b, wanted, self.adaptation.objective.options).sum() / len(batch)

    def entry(self, losses: Sequence[float]) -> dict[str, Any]:
        """Return the number of pairs, their mean loss, and the share of both sides' words that have a link."""
        sizes = np.diff([*range(0, len(self.part), self.adaptation.fit.batch_pairs), len(self.part)])
        links = (np.stack([self.links.row, words]) for words in (self.links.source, self.links.target))
        n_linked = sum(np.unique(each, axis=1).shape[1] for each in links)
        return {
            "pairs": len(self.part),
            "loss": round(float(np.average(losses, weights=sizes)), 6),
            "words_linked": round(n_linked / sum(len(side.words) for pair in self.part for side in pair), 4),
        }


def fit(
    learner: Learner,
    sides: Sequence[Sides],
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


@torch.inference_mode()
def _links(learner: Learner, pairs: Sequence[Sides], adaptation: Adaptation) -> Links:
    """Return the links of the pairs by the current encoder without dropout, sorted by pair."""
    learner.train(False)
    flat = [side for pair in pairs for side in pair]
    found: list[NDArray[np.float32]] = [np.zeros((0, 0), dtype=np.float32)] * len(flat)
    budget = adaptation.fit.micro_batch_tokens
    budget = min(budget, CPU_TOKENS) if learner.device.type == "cpu" else budget
    for batch in micro_batches(np.array([len(side.ids) for side in flat]), budget):
        means, exists = learner.vectors([flat[index] for index in batch], adaptation.fit)
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
