"""What is special about plain noise."""

import pytest
import torch

from workbench.core.config import UserError
from workbench.degradations import GaussianNoise


@pytest.mark.parametrize(("severity", "std"), [(0.0, 0.1), (0.5, 0.3), (1.0, 0.5)])
def test_noise_grows_from_noise_std_to_a_half(severity: float, std: float) -> None:
    x = torch.rand(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    measurement = GaussianNoise(noise_std=0.1).measure(x, torch.full((64,), severity), torch.arange(64), 0)
    torch.testing.assert_close(measurement.noise_std, torch.full((64,), std))
    assert (measurement.y - x).std().item() == pytest.approx(std, rel=0.015)


def test_a_level_follows_each_image() -> None:
    severity = torch.tensor([1.0, 0.0])
    measurement = GaussianNoise().measure(torch.zeros(2, 1, 64, 64), severity, torch.arange(2), 0)
    strong, mild = measurement.y.flatten(1).std(1).tolist()
    assert strong == pytest.approx(0.5, rel=0.05)
    assert mild == pytest.approx(0.05, rel=0.05)


def test_noise_that_could_not_grow_is_refused() -> None:
    with pytest.raises(UserError, match="noise_std"):
        GaussianNoise.parse({"noise_std": 0.5})
