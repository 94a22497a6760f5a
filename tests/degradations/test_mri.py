"""MRI in closed form: columns, coils, complex images, and a user's k-space."""

import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.degradations import MRI

NUM = 6
IDS = torch.arange(NUM)


def images(channels: int = 1, height: int = 24, width: int = 60) -> Tensor:
    return randomness.uniform(IDS, ("images",), (channels, height, width))


def frequencies(x: Tensor) -> Tensor:
    """The orthonormal transform with the zero frequency in the middle."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, (-2, -1)), norm="ortho"), (-2, -1))


def columns(severity: float, width: int = 60, seed: int = 0) -> Tensor:
    """Which columns are measured, (images, width) bool."""
    mask = MRI().parameters(torch.full((NUM,), severity), IDS, seed, (1, 24, width))["mask"]
    assert torch.equal(mask, mask[:, :, :1].expand_as(mask)), "whole columns"
    return mask[:, 0, 0] == 1


def test_columns_are_as_many_as_the_acceleration_says_with_the_centre_of_fastmri() -> None:
    for severity, kept, centre in ((0.0, 30, 10), (0.2, 15, 5), (1.0, 5, 2)):
        found = columns(severity)
        assert found.sum(1).tolist() == [kept] * NUM
        first = 30 - centre // 2
        assert found[:, first : first + centre].all()
    assert len({tuple(row) for row in columns(0.5).tolist()}) == NUM, "each image has its own"


def test_columns_measured_at_a_severity_are_measured_at_lower_ones() -> None:
    for width in (60, 61, 64, 17):
        before = columns(0.0, width)
        for severity in torch.linspace(0.02, 1, 50).tolist():
            now = columns(severity, width)
            assert (before | ~now).all()
            assert now.any(1).all()
            before = now


def test_y_holds_the_measured_frequencies() -> None:
    x = images(3)
    m = MRI(noise_std=0).measure(x, torch.linspace(0, 1, NUM), IDS, 0)
    assert m.y.shape == (NUM, 3, 1, 24, 60, 2)
    found = torch.view_as_complex(m.y.contiguous())[:, :, 0]
    torch.testing.assert_close(found, frequencies(x) * m.params["mask"], rtol=1e-4, atol=1e-5)
    assert m.num_observed().tolist() == [2 * 3 * 24 * count for count in (30, 15, 10, 8, 6, 5)]


def test_complex_images_have_frequencies_of_their_own() -> None:
    x = images(4) - 0.5
    operator = MRI(noise_std=0, complex_images=True)
    m = operator.measure(x, torch.zeros(NUM), IDS, 0)
    found = torch.view_as_complex(m.y.contiguous())[:, :, 0]
    expected = frequencies(torch.complex(x[:, ::2], x[:, 1::2]))
    torch.testing.assert_close(found, expected * m.params["mask"], rtol=1e-4, atol=1e-5)
    everything = {"mask": torch.ones(NUM, 1, 24, 60)}
    torch.testing.assert_close(operator.A_adjoint(operator.A(x, everything), everything), x)
    with pytest.raises(UserError, match="even number of channels"):
        operator.check((1, 24, 60), gradient=True)


def test_coils_see_the_image_by_their_sensitivities() -> None:
    x = images()
    operator = MRI(noise_std=0, num_coils=4)
    m = operator.measure(x, torch.zeros(NUM), IDS, 0)
    assert m.y.shape == (NUM, 1, 4, 24, 60, 2)
    maps = torch.view_as_complex(m.params["coil_maps"].contiguous())
    torch.testing.assert_close(maps.abs().square().sum(1), torch.ones(NUM, 24, 60))
    assert maps.abs()[0].flatten(1).std(1).min() > 0.05, "each sees one side more"
    found = torch.view_as_complex(m.y.contiguous())[:, 0]
    torch.testing.assert_close(found, frequencies(maps * x) * m.params["mask"], rtol=1e-4, atol=1e-5)
    everything = {**m.params, "mask": torch.ones(NUM, 1, 24, 60)}
    torch.testing.assert_close(operator.A_adjoint(operator.A(x, everything), everything), x)


@pytest.mark.parametrize("num_coils", [1, 4])
def test_a_users_k_space(num_coils: int) -> None:
    operator = MRI(num_coils=num_coils)
    m = operator.measure(images(), torch.full((NUM,), 0.5), IDS, 0)
    params = dict(m.params)
    if num_coils > 1:
        params["coil_maps"] = torch.view_as_complex(params["coil_maps"].contiguous())
    taken, lines = operator.given_parameters(params, (1, 24, 60))
    assert not lines
    y = torch.view_as_complex(m.y.contiguous()).squeeze(1)
    if num_coils == 1:
        y = y.squeeze(1)  # (batch, height, width)
    given, lines = operator.given_measurement(y, torch.full((NUM,), 0.5), IDS, taken)
    assert not lines
    torch.testing.assert_close(given.y, m.y)
    torch.testing.assert_close(given.encoder_input(), m.encoder_input())


def test_a_users_mistakes() -> None:
    operator = MRI()
    m = operator.measure(images(), torch.full((NUM,), 0.5), IDS, 0)
    y, half = torch.view_as_complex(m.y.contiguous())[:, 0, 0], torch.full((NUM,), 0.5)
    with pytest.raises(UserError, match=r"y of mri has shape \(6, 60, 24, 2\)"):
        operator.given_measurement(y.mT, half, IDS, m.params)
    with pytest.raises(UserError, match="y is not zero where the mask leaves k-space out"):
        operator.given_measurement(y, half, IDS, {"mask": 1 - m.params["mask"]})
    with pytest.raises(UserError, match=r"must be on the scale of \[0, 1\] images"):
        operator.given_measurement(255 * y, half, IDS, m.params)
    with pytest.raises(UserError, match="mri needs coil_maps, found mask"):
        MRI(num_coils=2).given_parameters(m.params, (1, 24, 60))
