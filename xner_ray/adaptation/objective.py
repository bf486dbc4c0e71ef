"""What an encoder is taught: that words which it links itself, seen from both sides, are each other's translation.

The self-training objective of awesome-align (Dou and Neubig 2021, section 3.2.2):

    L = - 1/2 sum over links (i, j) of (forward_ij / n_source + backward_ij / n_target)

with forward_ij the softmax of word i's similarities over the target words, backward_ij that of word j's over the source
words, and links those that the encoder finds at the moment. Similarities, their centring and temperature are
those of `align`, so what is sharpened is what alignment reads later.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xner_ray.align import AlignOptions, Padded, cosines


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
