"""The ridge for log variances against data whose variances are known."""

import torch
from torch import Tensor

from workbench.severity.ridge import LogVarianceRidge


def drawn(num_images: int, num_features: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, log variances that two of them determine, and s2 of errors with 50 elements of that variance."""
    generator = torch.Generator().manual_seed(seed)
    features = 5 + 3 * torch.randn(num_images, num_features, generator=generator)
    log_var = -3 + 0.2 * features[:, 0] - 0.1 * features[:, 1]
    errors = torch.randn(num_images, 50, generator=generator) * (0.5 * log_var).exp()[:, None]
    return features, log_var, errors.square().mean(1)


def test_it_finds_the_variance_and_is_calibrated_on_other_images() -> None:
    features, _, s2 = drawn(200, 30, seed=0)
    ridge = LogVarianceRidge()
    ridge.fit(features, s2)
    new, log_var, new_s2 = drawn(1000, 30, seed=1)
    assert float((ridge(new) - log_var).square().mean().sqrt()) < 0.15
    assert abs(float((new_s2 / ridge(new).exp()).mean()) - 1) < 0.05


def test_with_more_features_than_images_it_shrinks_to_the_mean_rather_than_explode() -> None:
    features, _, s2 = drawn(40, 100, seed=0)
    ridge = LogVarianceRidge()
    ridge.fit(features, s2)
    new, log_var, new_s2 = drawn(1000, 100, seed=1)
    assert float((ridge(new) - log_var).square().mean()) < float(log_var.var())
    assert abs(float((new_s2 / ridge(new).exp()).mean()) - 1) < 0.25


def test_predictions_stay_near_the_range_of_the_fit() -> None:
    features, _, s2 = drawn(200, 5, seed=0)
    ridge = LogVarianceRidge()
    ridge.fit(features, s2)
    far = ridge(torch.full((1, 5), 1e4)).exp()
    assert 0.4 * float(s2.min()) < float(far) < 2.5 * float(s2.max())
