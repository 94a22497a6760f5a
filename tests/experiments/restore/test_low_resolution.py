"""Pictures of fewer pixels than the model's images."""

from dataclasses import replace

import pytest
import torch
from degraded_pictures import measured
from given_y import given

from workbench.core.config import UserError
from workbench.degradations import Compose, GaussianBlur, Mixture, RandomInpainting, SuperResolution
from workbench.experiments.restore.low_resolution import check_sizes, makes_smaller, severities
from workbench.experiments.restore.pictures import Measured

SHAPE = (1, 32, 32)


def small(*sizes: int) -> Measured:
    """Square pictures of these sizes in the corner of 32 x 32."""
    y = torch.zeros(len(sizes), *SHAPE)
    for image, size in zip(y, sizes, strict=True):
        image[:, :size, :size] = 0.5
    names = tuple(f"{i}.png" for i in range(len(sizes)))
    whole = measured(y, *names)
    return Measured(names, y, tuple((size, size) for size in sizes), whole.grey, whole.files, ())


def test_which_operators_make_smaller_pictures() -> None:
    assert makes_smaller(SuperResolution(), SHAPE)
    assert makes_smaller(Mixture(), SHAPE)
    assert makes_smaller(Compose(parts=(GaussianBlur(), SuperResolution())), SHAPE)
    assert not makes_smaller(RandomInpainting(), SHAPE)


def test_the_size_of_the_severity_needs_no_word() -> None:
    level, lines = severities(SuperResolution(), torch.full((2,), 1.0), small(8, 8))
    assert level.tolist() == [1.0, 1.0]
    assert lines == []


def test_another_size_says_its_severity() -> None:
    level, lines = severities(SuperResolution(), torch.full((3,), 0.5), small(8, 16, 13))
    assert level.tolist() == [1.0, pytest.approx(1 / 3), 0.5]
    (line,) = lines
    assert line.startswith("--severity 0.5 contradicts the size of the images")
    assert "8 x 8 is severity 1, 16 x 16 is severity 0.333" in line
    sizes = SuperResolution().parameters(level, torch.arange(3), 0, SHAPE)["size"]
    assert sizes.tolist() == [[8, 8], [16, 16], [13, 13]]


def test_padded_pictures_that_end_earlier_are_said_to() -> None:
    """Restored as 13 x 13, 8 x 8 pixels in the corner of 32 x 32 give 8.7 dB instead of 19.1."""
    padded = replace(small(8, 8), sizes=((32, 32), (32, 32)))
    level, (line,) = severities(SuperResolution(), torch.full((2,), 0.5), padded)
    assert level.tolist() == [0.5, 0.5]
    assert line.startswith("all images are 0 beyond 8 x 8 pixels, but --severity 0.5 gives 13 x 13")
    assert line.endswith("use --severity 1")
    assert severities(SuperResolution(), torch.ones(2), padded)[1] == []


@pytest.mark.parametrize("size", range(8, 32))
def test_every_size_has_a_severity(size: int) -> None:
    level, _ = severities(SuperResolution(), torch.zeros(1), small(size))
    assert SuperResolution().parameters(level, torch.arange(1), 0, SHAPE)["size"].tolist() == [[size, size]]


def test_a_size_that_no_severity_makes_is_refused() -> None:
    with pytest.raises(UserError, match=r"1\.png is 7 x 7: super_resolution accepts 8 x 8 \(severity 1\) to 32 x 32"):
        severities(SuperResolution(), torch.ones(2), small(8, 7))


def test_a_smaller_picture_must_be_as_large_as_the_operator_makes_it() -> None:
    operator = Compose(parts=(GaussianBlur(), SuperResolution()), shares=(1.0, 1.0))
    params = operator.parameters(torch.ones(2), torch.arange(2), 0, SHAPE)
    check_sizes(operator, params, small(8, 8))
    with pytest.raises(UserError, match=r"1\.png is 10 x 10, but compose gives 8 x 8"):
        check_sizes(operator, params, small(8, 10))


def test_an_enlarged_picture_is_refused_with_the_remedy() -> None:
    operator = SuperResolution()
    y = torch.rand(1, *SHAPE)
    params = operator.parameters(torch.ones(1), torch.arange(1), 0, SHAPE)
    with pytest.raises(UserError, match="pass the image before upsampling"):
        given(operator, y, params)
