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
    ridge.fit(features[None], s2[None])
    new, log_var, new_s2 = drawn(1000, 30, seed=1)
    assert float((ridge(new) - log_var).square().mean().sqrt()) < 0.15
    assert abs(float((new_s2 / ridge(new).exp()).mean()) - 1) < 0.05


def test_with_more_features_than_images_it_shrinks_to_the_mean_rather_than_explode() -> None:
    features, _, s2 = drawn(40, 100, seed=0)
    ridge = LogVarianceRidge()
    ridge.fit(features[None], s2[None])
    new, log_var, new_s2 = drawn(1000, 100, seed=1)
    assert float((ridge(new) - log_var).square().mean()) < float(log_var.var())
    assert abs(float((new_s2 / ridge(new).exp()).mean()) - 1) < 0.25


def test_predictions_stay_near_the_range_of_the_fit() -> None:
    features, _, s2 = drawn(200, 5, seed=0)
    ridge = LogVarianceRidge()
    ridge.fit(features[None], s2[None])
    far = ridge(torch.full((1, 5), 1e4)).exp()
    assert 0.4 * float(s2.min()) < float(far) < 2.5 * float(s2.max())


def test_several_draws_of_an_image_are_left_out_together() -> None:
    """By refitting without each image, with the penalty that was chosen."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 30, 8, generator=generator) + torch.randn(1, 30, 8, generator=generator)
    s2 = (features[..., 0] + torch.randn(1, 30, generator=generator)).exp()
    ridge = LogVarianceRidge()
    ridge.fit(features, s2)
    x = ((features - ridge.mean) / ridge.scale).double()
    y = s2.double().log()
    # the bias holds the mean of s2 over predictions that have not seen the image
    design = torch.cat([torch.ones(3, 30, 1), x], dim=2).double()
    penalty = _penalty(x.flatten(0, 1), y.flatten(), ridge.weight.double()) * torch.diag(torch.tensor([0.0] + 8 * [1]))
    errors = []
    for i in range(30):
        kept = [j for j in range(30) if j != i]
        a, b = design[:, kept].flatten(0, 1), y[:, kept].flatten()
        errors.append((y[:, i] - design[:, i] @ torch.linalg.solve(a.T @ a + penalty, a.T @ b)).exp())
    expected = y.mean() + torch.cat(errors).mean().log()
    torch.testing.assert_close(ridge.bias.double(), expected, rtol=0, atol=1e-3)


def _penalty(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """The penalty of which `weight` is the ridge solution."""
    gradient = x.T @ (y - y.mean() - x @ weight)
    return (gradient @ weight) / (weight @ weight)
