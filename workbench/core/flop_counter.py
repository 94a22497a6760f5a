"""torch's counter of floating-point operations, with the attention that it leaves out on CPUs."""

from typing import Any

import torch


def flop_counter() -> Any:
    """A context that counts the FLOPs of everything in it: `get_total_flops()`.

    torch counts attention by the fused kernels of GPUs, but not by that of CPUs, which computes the same.
    """
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        return sdpa_flop_count(query, key, value)

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        return sdpa_backward_flop_count(gradient, query, key, value)

    aten = torch.ops.aten
    on_cpu = {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    return FlopCounterMode(display=False, custom_mapping=on_cpu)
