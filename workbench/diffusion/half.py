"""Networks with weights in half precision, between inputs and answers in float32."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def in_type(dtype: torch.dtype, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """network(x) in float32, computed in another type; the gradient to x is computed in it too.

    fp16 has no numbers below 6e-8, and gradients of a guidance term may be smaller. So those of each image are scaled
    by a power of two to about 1 on their way through the network, and back after it.
    """
    if dtype == torch.float32:
        return network(x).float()
    scales: list[Tensor] = []
    entered: Tensor = _Enter.apply(x, dtype, scales)
    left: Tensor = _Leave.apply(network(entered), scales)
    return left


class _Enter(torch.autograd.Function):
    """To half precision; its gradient undoes the scale."""

    @staticmethod
    def forward(context: Any, x: Tensor, dtype: torch.dtype, scales: list[Tensor]) -> Tensor:
        context.scales = scales
        return x.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.float() / context.scales.pop(), None, None


class _Leave(torch.autograd.Function):
    """To float32; its gradient is scaled."""

    @staticmethod
    def forward(context: Any, x: Tensor, scales: list[Tensor]) -> Tensor:
        context.scales, context.dtype = scales, x.dtype
        return x.float()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        largest = gradient.flatten(1).abs().amax(1).clamp(1e-30, 1e30)
        scale = torch.exp2(-largest.log2().round()).reshape(-1, *(1,) * (gradient.dim() - 1))
        context.scales.append(scale)
        return (gradient * scale).to(context.dtype), None
