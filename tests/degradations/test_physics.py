"""The adapter over deepinv's physics."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from workbench.degradations import physics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_follow_the_precision_of_the_images(dtype: torch.dtype) -> None:
    x = torch.rand(2, 1, 8, 8, dtype=dtype)
    assert physics.blur(torch.rand(2, 1, 3, 3), x).A(x).dtype == dtype
    assert physics.inpainting(torch.ones(2, 1, 8, 8), x).A(x).dtype == dtype
    assert physics.identity(x).A(x).dtype == dtype


def test_convolution_is_a_convolution() -> None:
    x = torch.zeros(1, 1, 7, 7)
    x[..., 3, 3] = 1
    lopsided = torch.arange(9.0).reshape(1, 1, 3, 3)
    torch.testing.assert_close(physics.blur(lopsided, x).A(x)[..., 2:5, 2:5], lopsided)


def test_borders_repeat_the_edge_pixel() -> None:
    x = torch.tensor([1.0, 2.0, 3.0]).expand(1, 1, 3, 3)
    from_the_left = torch.zeros(1, 1, 3, 3)
    from_the_left[..., 1, 2] = 1
    torch.testing.assert_close(physics.blur(from_the_left, x).A(x)[0, 0, 0], torch.tensor([1.0, 1.0, 2.0]))


def test_calls_in_threads_keep_their_own_parameters() -> None:
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    filters = [torch.full((4, 1, 3, 3), float(i)) for i in range(16)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda weights: physics.blur(weights, x).A(x), filters))
    for i, result in enumerate(threaded):
        torch.testing.assert_close(result, i * threaded[1])
