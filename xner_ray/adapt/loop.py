"""The training loop of an adaptation, in one process.

Pairs are drawn in an order that follows from (seed, epoch) alone and worked off in parts. At the start of a part the
encoder, as it is then, links its pairs; the steps of the part learn these links. A checkpoint after each part holds all
that the next one needs, so an adaptation that was ended goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
from xner_ray.errors import Reason, RecipeError
from xner_ray.models import network
from xner_ray.models.e5 import builtin_folder
from xner_ray.models.windows import Window, micro_batches, padded, pieces_of, tokenized

Ints = NDArray[np.int64]
State = dict[str, Any]
Sides = tuple[Window, Window]
_TOKENIZED = 4096  # sentences at once


class Learner:
    """An encoder up to the layers that alignment reads, of which those above `frozen` learn."""

    def __init__(self, settings: Model, device: torch.device) -> None:
        """RecipeError if the encoder, its layer or `frozen` cannot be."""
        self.device, self.settings = device, settings
        self.layers = Encoder.check(settings.encoder, settings.layer)
        if settings.frozen >= self.layers[-1]:
            raise RecipeError(
                f"model.frozen is {settings.frozen}, but alignment reads layer {self.layers[-1]} "
                f"of {settings.encoder}: nothing would learn; allowed: 0 to {self.layers[-1] - 1}"
            )
        self.name = str(builtin_folder()) if settings.encoder == BUILTIN else settings.encoder
        self.tokenizer, self.module = network.load(self.name, torch.float32)
        self.spelt = network.spelt_specials(self.tokenizer)
        self.positions = network.positions_of(self.module, self.tokenizer)
        self.module.requires_grad_(False)
        self.network = network.Network(self.module, self.layers, self.tokenizer)
        stack = next((m for m in self.module.modules() if isinstance(m, nn.ModuleList) and self._is_stack(m)), None)
        if stack is None:
            raise RecipeError(f"model.encoder {settings.encoder!r} keeps its layers in no list of its own")
        self.learning = list(stack)[settings.frozen : self.layers[-1]]
        for layer in self.learning:
            layer.requires_grad_(True)
        self.module.to(device)

    def _is_stack(self, modules: nn.ModuleList) -> bool:
        return len(modules) == (max(self.layers[-1], 1) if self.network.is_cut else self.network.n_layers)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns, by name in the encoder."""
        return {name: each for name, each in self.module.named_parameters() if each.requires_grad}

    def train(self, training: bool = True) -> None:
        """Dropout on or off, in the layers that learn alone."""
        self.module.eval()
        for layer in self.learning:
            layer.train(training)

    def pieces(self, pairs: Sequence[Pair]) -> list[Sides | None]:
        """Both sides of each pair in subwords; None if one has none, or more than the encoder reads at once."""
        result: list[Sides | None] = []
        for start in range(0, len(pairs), _TOKENIZED):
            chunk = pairs[start : start + _TOKENIZED]
            sides = []
            for number in (0, 1):
                words = [pair[number] for pair in chunk]
                encodings = tokenized(self.tokenizer, words)
                sides.append([self._whole(each, words[index]) for index, each in enumerate(encodings)])
            result += [None if a is None or b is None else (a, b) for a, b in zip(*sides, strict=True)]
        return result

    def _whole(self, encoding: Any, words: list[str]) -> Window | None:
        found = pieces_of(0, encoding.ids, encoding.word_ids, len(words), self.positions, self.spelt)
        return found[0] if not isinstance(found, Reason) and len(found) == 1 else None

    def vectors(self, pieces: Sequence[Window], settings: Fit) -> tuple[Tensor, Tensor]:
        """Word vectors of a batch's rows (B, words, dim), and which exist (B, words)."""
        order = sorted(range(len(pieces)), key=lambda index: -len(pieces[index].ids))
        batch = [pieces[index] for index in order]
        with _autocast(self.device, settings):
            states = self.network(padded(batch, self.tokenizer.pad_token_id, self.device))
        _, means, exists = unit_means(states, [piece.of_words() for piece in batch])
        back = torch.from_numpy(np.argsort(order)).to(self.device)
        return means[back], exists[back]

    def save(self, folder: str) -> None:
        """An ordinary Hugging Face folder: the whole model, with what has learnt in its place.

        config.json notes the layers, so that `align.layer: auto` takes these.
        """
        tokenizer, whole = network.load_whole(self.name, torch.float32)
        own = dict(network.encoder_of(whole).named_parameters())
        with torch.no_grad():
            for name, value in self.parameters().items():
                own[name].copy_(value.cpu())
        setattr(whole.config, network.ALIGN_LAYERS, self.layers)
        with network.quiet():
            whole.save_pretrained(folder)
            tokenizer.save_pretrained(folder)


@dataclass
class Progress:
    """Parts done, and one entry for each: epoch, pairs, loss, and the share of words that had a link."""

    parts: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def fit(
    learner: Learner,
    pieces: Sequence[Sides],
    adaptation: Adaptation,
    *,
    resume: State | None = None,
    checkpoint: Callable[[Progress, Callable[[], State]], None] = lambda progress, state: None,
) -> Progress:
    """Train the learner on the pairs.

    checkpoint: called after every part, with a function that gives what `resume` takes.
    """
    settings = adaptation.fit
    optimizer, schedule = _optimizer(learner, settings, len(pieces))
    progress = Progress()
    if resume is not None:
        progress = Progress(**resume["progress"])
        parameters = learner.parameters()
        with torch.no_grad():
            for name, value in resume["weights"].items():
                parameters[name].copy_(value)
        optimizer.load_state_dict(resume["optimizer"])
        schedule.load_state_dict(resume["schedule"])
    size = _part_size(settings)
    per_epoch = math.ceil(len(pieces) / size)
    while progress.parts < settings.epochs * per_epoch:
        epoch, part = divmod(progress.parts, per_epoch)
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(pieces))
        own = [pieces[index] for index in order[part * size : (part + 1) * size]]
        links = _links(learner, own, adaptation)
        torch.manual_seed(hash((settings.seed, progress.parts)) % 2**31)  # dropout, also of a resumed part
        learner.train()
        total = 0.0
        for start in range(0, len(own), settings.batch_pairs):
            rows = np.arange(start, min(start + settings.batch_pairs, len(own)))
            total += _step(learner, own, links, rows, adaptation, optimizer, schedule) * len(rows)
        learner.train(False)
        progress.parts += 1
        progress.history.append(
            {
                "epoch": round(epoch + (part + 1) / per_epoch, 4),
                "pairs": len(own),
                "loss": round(total / len(own), 6),
                "words_linked": round(_linked(links, own), 4),
            }
        )
        checkpoint(progress, lambda: _state(learner, progress, optimizer, schedule))
    return progress


def _part_size(settings: Fit) -> int:
    """A whole number of steps."""
    return math.ceil(settings.part_pairs / settings.batch_pairs) * settings.batch_pairs


def _state(learner: Learner, progress: Progress, optimizer: torch.optim.Optimizer, schedule: Any) -> State:
    return {
        "progress": vars(progress),
        "weights": {name: value.detach().cpu() for name, value in learner.parameters().items()},
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }


def _optimizer(learner: Learner, settings: Fit, n_pairs: int) -> tuple[torch.optim.Optimizer, Any]:
    parameters = list(learner.parameters().values())
    groups = [
        {"params": [p for p in parameters if (p.ndim > 1) == decays], "weight_decay": settings.weight_decay * decays}
        for decays in (True, False)  # norms and biases do not decay
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    total = math.ceil(n_pairs / settings.batch_pairs) * settings.epochs
    warm = max(1, round(settings.warmup * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (total - step) / max(1, total - warm)))
    )
    return optimizer, schedule


def _autocast(device: torch.device, settings: Fit) -> torch.autocast:
    wanted = settings.dtype == "bfloat16" or (settings.dtype == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


@torch.inference_mode()
def _links(learner: Learner, pieces: Sequence[Sides], adaptation: Adaptation) -> Links:
    """Links of the pairs by the encoder as it is, without dropout; sorted by pair."""
    learner.train(False)
    flat = [_Numbered(piece.ids, number, piece) for number, piece in enumerate(p for pair in pieces for p in pair)]
    found: list[NDArray[np.float32]] = [np.zeros((0, 0), dtype=np.float32)] * len(flat)
    for batch in micro_batches(flat, adaptation.fit.micro_batch_tokens, learner.device):
        means, exists = learner.vectors([each.piece for each in batch], adaptation.fit)
        for each, values, own in zip(batch, means.cpu(), exists.cpu(), strict=True):
            found[each.number] = values[own].numpy()
    return align(found[::2], found[1::2], adaptation.objective.options, device=learner.device).hard(
        adaptation.objective.method
    )


@dataclass(frozen=True, slots=True)
class _Numbered:
    ids: list[int]
    number: int
    piece: Window


def _linked(links: Links, pieces: Sequence[Sides]) -> float:
    """Share of the words of both sides that have a link."""
    n_linked = sum(len(np.unique(np.stack([links.row, side]), axis=1).T) for side in (links.source, links.target))
    return n_linked / sum(len(piece.words) for pair in pieces for piece in pair)


def _step(
    learner: Learner,
    pieces: Sequence[Sides],
    links: Links,
    batch: Ints,
    adaptation: Adaptation,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
) -> float:
    """One step; returns the mean loss of its pairs."""
    optimizer.zero_grad()
    total = 0.0
    for rows in _micro(pieces, batch, adaptation.fit.micro_batch_tokens):
        both = [pieces[row][number] for number in (0, 1) for row in rows]
        means, exists = learner.vectors(both, adaptation.fit)
        n = len(rows)
        a, b = (Padded(means[at], exists[at].long(), exists[at]) for at in (slice(0, n), slice(n, 2 * n)))
        wanted = torch.zeros((n, means.shape[1], means.shape[1]), device=means.device)
        for number, row in enumerate(rows):
            own = slice(*np.searchsorted(links.row, [row, row + 1]))
            wanted[number, links.source[own], links.target[own]] = 1.0
        part = loss(a, b, wanted, adaptation.objective.options).sum() / len(batch)
        part.backward()  # type: ignore[no-untyped-call]
        total += float(part.detach())
    nn.utils.clip_grad_norm_(learner.parameters().values(), adaptation.fit.clip_norm)
    optimizer.step()
    schedule.step()
    return total


def _micro(pieces: Sequence[Sides], batch: Ints, budget: int) -> Iterator[list[int]]:
    """Pairs longest first, so many at a time that rows x longest fit the budget; one at least."""
    sizes = {row: max(len(piece.ids) for piece in pieces[row]) for row in batch.tolist()}
    order = sorted(sizes, key=lambda row: -sizes[row])
    start = 0
    while start < len(order):
        n = max(1, budget // (2 * sizes[order[start]]))
        yield order[start : start + n]
        start += n


def probabilities(a: Padded, b: Padded, options: AlignOptions) -> tuple[Tensor, Tensor]:
    """forward and backward, (B, m, n) each; as in `align`, but unrounded and with a gradient. 0 for padding."""
    cosine, norms = cosines(a, b, options)
    logits = cosine if options.similarity == "cosine" else cosine * norms[0][:, :, None] * norms[1][:, None, :]
    mask = a.exists[:, :, None] & b.exists[:, None, :]
    logits = (logits / options.softmax[0]).masked_fill(~mask, -1e9)  # finite: a row of padding has no gradient then
    forward, backward = (torch.softmax(logits, dim).masked_fill(~mask, 0.0) for dim in (2, 1))
    return forward, backward


def loss(a: Padded, b: Padded, links: Tensor, options: AlignOptions) -> Tensor:
    """The loss of each pair, (B,), from -1 to 0; links: (B, m, n), 1 where two words are linked."""
    forward, backward = probabilities(a, b, options)
    n_source, n_target = a.exists.sum(1), b.exists.sum(1)
    shares = forward / n_source[:, None, None] + backward / n_target[:, None, None]
    total: Tensor = -0.5 * (links * shares).sum(dim=(1, 2))
    return total
