"""Fewer pixels."""

import torch
import torch.nn.functional as F  # noqa: N812

from tests.degradations.test_every_degradation import image_ids, measure, shapes
from workbench.degradations import SuperResolution


def test_is_the_antialiased_interpolation_of_torch() -> None:
    x = shapes(5)
    severity = torch.linspace(0, 1, 5)
    params = SuperResolution().parameters(severity, image_ids(5), 0, (1, 32, 32))
    y = SuperResolution().A(x, params)
    for i, low in enumerate([32, 18, 13, 10, 8]):
        expected = F.interpolate(x[i : i + 1], (low, low), mode="bicubic", antialias=True)
        torch.testing.assert_close(y[i : i + 1, :, :low, :low], expected, rtol=1e-4, atol=1e-5)
        assert float(y[i, :, low:].abs().sum() + y[i, :, :, low:].abs().sum()) == 0


def test_noise_and_residual_live_on_the_low_resolution() -> None:
    x = torch.full((400, 1, 32, 32), 0.5)
    measurement = measure(SuperResolution(noise_std=0.1), x, 1.0)
    assert measurement.num_observed().tolist() == [64.0] * 400
    residual = measurement.residual(SuperResolution().A(x, measurement.params))
    assert abs(float(residual[:, :, :8, :8].std()) - 0.1) < 0.003
    assert float(measurement.y[:, :, 8:].abs().sum() + measurement.y[:, :, :, 8:].abs().sum()) == 0


def test_sizes_that_are_not_square_or_small() -> None:
    measurement = measure(SuperResolution(), torch.rand(2, 3, 5, 2), 1.0)
    assert measurement.params["size"].tolist() == [[1, 1]] * 2  # 5 / 4 and 2 / 4, at least one pixel
    assert measurement.encoder_input().shape == (2, 3, 5, 2)


def test_the_view_is_the_low_resolution_enlarged() -> None:
    x = shapes(3)
    measurement = measure(SuperResolution(noise_std=0.0), x, 0.6)
    low = int(measurement.params["size"][0, 0])
    expected = F.interpolate(measurement.y[:, :, :low, :low], (32, 32), mode="bicubic", align_corners=False)
    torch.testing.assert_close(measurement.encoder_input(), expected)
