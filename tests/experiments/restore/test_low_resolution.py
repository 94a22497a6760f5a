"""Low-resolution pictures: how large was the image?"""

import pytest
import torch
from degraded_pictures import measured

from workbench.core.config import UserError
from workbench.degradations import Compose, Degradation, GaussianBlur, Mixture, RandomInpainting, SuperResolution
from workbench.experiments.restore.low_resolution import check_sizes, makes_smaller, on_canvas

BLURRED = Compose(parts=(GaussianBlur(), SuperResolution()), shares=(0.5, 1.0))


def low(height: int, width: int) -> torch.Tensor:
    return torch.full((2, 3, height, width), 0.5)


def test_which_operators_make_smaller_pictures() -> None:
    assert makes_smaller(SuperResolution())
    assert makes_smaller(Mixture())
    assert makes_smaller(BLURRED)
    assert not makes_smaller(RandomInpainting())


@pytest.mark.parametrize("operator", [SuperResolution(), BLURRED], ids=lambda operator: operator.kind)
@pytest.mark.parametrize("severity", [0.0, 0.1, 1 / 3, 0.5, 0.73, 1.0])
@pytest.mark.parametrize("size", [(16, 16), (120, 80), (17, 31)])
def test_the_operator_gives_this_low_resolution_from_the_size_found(
    operator: Degradation, severity: float, size: tuple[int, int]
) -> None:
    whole, lines = on_canvas(operator, severity, {}, measured(low(*size)))
    params = operator.parameters(torch.full((2,), severity), torch.arange(2), 0, whole.image_shape)
    (found,) = (value for name, value in params.items() if name.endswith("size"))
    assert found.tolist() == [list(size)] * 2
    assert (lines == []) == (severity == 0)
    check_sizes(operator, params, measured(low(*size)), whole)
    assert torch.equal(whole.y[..., : size[0], : size[1]], low(*size))
    assert float(whole.y.sum()) == float(low(*size).sum())


def test_four_times_smaller_is_four_times_larger_and_said() -> None:
    whole, lines = on_canvas(SuperResolution(), 1.0, {}, measured(low(120, 80)))
    assert whole.image_shape == (3, 480, 320)
    assert lines == ["80 x 120 is the low resolution of 320 x 480"]


def test_what_stands_in_the_corner_already_stays() -> None:
    y = torch.zeros(2, 3, 32, 32)
    y[..., :8, :8] = 0.5
    whole, lines = on_canvas(SuperResolution(), 1.0, {}, measured(y))
    assert torch.equal(whole.y, y)
    assert lines == []
    y[..., :20, :20] = 0.5  # more than the operator leaves: black is part of the picture
    assert on_canvas(SuperResolution(), 1 / 3, {}, measured(y))[0].image_shape == (3, 64, 64)


def test_an_interpolation_of_ones_own_says_the_size() -> None:
    operator = SuperResolution()
    params = operator.parameters(torch.ones(2), torch.arange(2), 0, (3, 33, 40))
    whole, _ = on_canvas(operator, 0.2, params, measured(low(8, 10)))
    assert whole.image_shape == (3, 33, 40)
    check_sizes(operator, params, measured(low(8, 10)), whole)
    with pytest.raises(UserError, match=r"0\.png is 9 x 8, but super_resolution gives 10 x 8"):
        check_sizes(operator, params, measured(low(8, 9)), whole)
    with pytest.raises(UserError, match=r"0\.png is 41 x 8, larger than rows and columns say"):
        on_canvas(operator, 0.2, params, measured(low(8, 41)))
