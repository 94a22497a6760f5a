"""What networks cost, counted on torch's meta device: no weights, no memory, no time."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from workbench.core.flop_counter import flop_counter

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Part:
    """The cost of one evaluation of a network on one image.

    Attributes:
        parameters: number of its weights.
        flops: of an evaluation.
        flops_grad: of an evaluation and the gradient with respect to its input.
        activation_bytes: what an evaluation keeps for that gradient, besides the weights, float32.
    """

    parameters: int
    flops: float
    flops_grad: float
    activation_bytes: float


def on_meta(network: N) -> N:
    """A copy of a network on the meta device; its weights are not copied."""
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=weight.requires_grad)
        for weight in network.parameters()
    }
    memo |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in network.buffers()}
    return copy.deepcopy(network, memo)


def count(network: nn.Module, call: Callable[[Tensor], Tensor], argument: Tensor) -> Part:
    """Count one evaluation.

    Args:
        network: the network, on the meta device, with frozen weights.
        call: an evaluation of it.
        argument: its input, on the meta device.
    """
    with torch.no_grad(), flop_counter() as plain:
        call(argument)
    with flop_counter() as graded:
        call(argument.clone().requires_grad_(True)).sum().backward()
    # by storage: what is kept of a linear layer is a view of its weights
    weights = {weight.untyped_storage()._cdata for weight in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor.detach()  # a node that keeps its own output, graph and all, would never be freed

    with _fused_attention(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call(argument.clone().requires_grad_(True))
    return Part(
        sum(weight.numel() for weight in network.parameters()),
        float(plain.get_total_flops()),
        float(graded.get_total_flops()),
        float(sum(kept.values())),
    )


class _Attention(torch.autograd.Function):
    """Attention as fused kernels compute it, on the meta device: the matrix of all pairs is never stored."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def _fused_attention() -> Iterator[None]:
    whole = F.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        return _Attention.apply(query, key, value)

    F.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        F.scaled_dot_product_attention = whole
