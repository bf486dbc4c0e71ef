"""Faster matrix products on a CPU: an encoder's Linear layers with weights packed for oneDNN, or as 8-bit integers.

Only the products change; sums, norms and activations stay float32, so `bfloat16` and `int8` lose little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16", "int8"]


class PackedLinear(nn.Module):
    """A Linear layer with its weight in oneDNN's layout; the product is computed in float32 or bfloat16.

    packs: False leaves the weight as it is, for a processor on which oneDNN lacks the format: torch computes in it
    there too, slowly.
    """

    weight = None  # for models that look at the type of a weight

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, *, packs: bool = True) -> None:
        super().__init__()
        self.dtype = dtype
        bias: Tensor | None = linear.bias
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.packs, weight = packs, linear.weight.detach().to(dtype)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, None) if packs else weight

    def forward(self, values: Tensor) -> Tensor:
        if not self.packs:
            return nn.functional.linear(values.to(self.dtype), self.packed, self.bias).to(values.dtype)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            values.to(self.dtype), self.packed, self.bias, "none", [], ""
        )
        return product.to(values.dtype)


class Int8Linear(nn.Module):
    """A Linear layer in 8-bit integers, with a scale for each output of the weight and, found at run time, each token.

    With one scale for a whole batch, a few large values would change ten times as many links, and a sentence's vectors
    would depend on its neighbours.
    """

    weight = None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        self.scale = weight.abs().amax(dim=1).clamp_(min=1e-12) / 127.0
        self.integers = (weight / self.scale[:, None]).round_().to(torch.int8)
        bias: Tensor | None = linear.bias
        self.bias = None if bias is None else bias.detach().float()

    def forward(self, values: Tensor) -> Tensor:
        flat = values.reshape(-1, values.shape[-1])
        highest = torch.maximum(flat.amax(dim=1, keepdim=True), flat.amin(dim=1, keepdim=True).neg_())
        scale = highest.clamp_(min=1e-12).div_(127.0)
        integers = (flat / scale).round_().to(torch.int8)
        product = torch._int_mm(integers, self.integers.t()).float().mul_(scale)
        if self.bias is None:
            product.mul_(self.scale)
        else:
            torch.addcmul(self.bias, product, self.scale, out=product)  # in place: a third less time
        return product.view(*values.shape[:-1], -1)


def replace_linears(module: nn.Module, precision: Precision) -> Callable[[], None] | None:
    """Replace the float32 Linear layers of `module` by faster ones; return a function that restores them.

    Returns None and replaces nothing if float32 cannot be packed here. Other formats are computed on every processor,
    so that all workers of a run compute alike; whether they are faster is another question (`cpu_dtype`).
    """
    packs = precision != "int8" and _can_pack(precision)
    if precision == "float32" and not packs:
        return None
    done = list(_linears(module))
    for parent, name, layer in done:
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        setattr(parent, name, Int8Linear(layer) if precision == "int8" else PackedLinear(layer, dtype, packs=packs))

    def undo() -> None:
        for parent, name, layer in done:
            setattr(parent, name, layer)

    return undo


def _can_pack(precision: Precision) -> bool:
    try:
        known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
        return bool(known and (precision == "float32" or torch.ops.mkldnn._is_mkldnn_bf16_supported()))
    except (AttributeError, RuntimeError):
        return False


def _linears(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                yield parent, name, child
