"""Fusion of the encoder's variance with the residual's, on variances whose truth is known."""

import math

import pytest
import torch
from torch import Tensor

from workbench.severity.calibration.fusion import MIN_SPREAD, Fusion
from workbench.severity.estimate import MAX_VARIANCE

BIAS, SPREAD = 1.8, 0.4
NUM_IMAGES = 4000


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def true_variances() -> Tensor:
    return (0.5 * normal(NUM_IMAGES, seed=1) - 3).exp()


def residuals(s2: Tensor, seed: int = 2) -> Tensor:
    """Off by a usual factor, and from image to image by another."""
    return s2 * BIAS * (SPREAD * normal(NUM_IMAGES, seed=seed)).exp()


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    """Of an encoder that knows its error exactly where it was trained, and elsewhere answers a quarter of it."""
    s2, features = true_variances(), normal(NUM_IMAGES, 5, seed=3)
    # a distance of r times the usual goes with an error of r squared times the predicted
    radius = 1 + 4 * torch.rand(NUM_IMAGES, generator=torch.Generator().manual_seed(4))
    direction = torch.nn.functional.normalize(normal(NUM_IMAGES, 5, seed=5), dim=1)
    usual = float(features.norm(dim=1).quantile(0.9))
    return Fusion.fit(s2, residuals(s2), features, (s2 / radius.square(), s2, direction * usual * radius[:, None]))


def test_the_fit_finds_bias_and_spread(fusion: Fusion) -> None:
    assert fusion.log_ratio == pytest.approx(math.log(BIAS), abs=0.03)
    assert fusion.spread == pytest.approx(SPREAD, rel=0.1)


def test_features_that_are_all_alike_raise_nothing() -> None:
    """As of an encoder that gives none."""
    s2, alike = true_variances(), torch.zeros(NUM_IMAGES, 1)
    fitted = Fusion.fit(s2, residuals(s2), alike, (s2 / 4, s2, alike))
    torch.testing.assert_close(fitted.by_distance(s2, alike), s2.clamp(max=MAX_VARIANCE))
    assert fitted.log_ratio == pytest.approx(math.log(BIAS), abs=0.03)


def test_a_good_encoder_is_left_alone(fusion: Fusion) -> None:
    s2 = true_variances()
    variance, distrusted = fusion.fused(s2, residuals(s2, seed=6))
    ratio = (variance / s2).log()
    assert float(ratio.median().exp()) < 1.1
    assert float(distrusted.float().mean()) < 0.1
    assert float(ratio.min()) >= -1e-6  # never below the encoder's own


def test_an_over_confident_encoder_is_corrected_without_the_residuals_bias(fusion: Fusion) -> None:
    s2 = true_variances()
    variance, distrusted = fusion.fused(s2 / 10, residuals(s2, seed=6))
    assert float((variance / s2).log().median().exp()) == pytest.approx(1, abs=0.1)
    assert float(distrusted.float().mean()) > 0.95


def test_more_residual_never_means_less_variance(fusion: Fusion) -> None:
    own = torch.full((200,), 0.02)
    variance, distrusted = fusion.fused(own, torch.logspace(-3, 0.6, 200))
    assert (variance.diff() >= 0).all()
    assert (distrusted.int().diff() >= 0).all()
    assert float(variance.max()) <= MAX_VARIANCE


@pytest.mark.parametrize("spread", [MIN_SPREAD, 0.3, 1.0])
def test_a_loud_contradiction_is_heard(spread: float) -> None:
    fusion = Fusion(0.0, spread, torch.zeros(1), torch.eye(1), 0.0, 0.0)
    own = torch.full((5,), 1e-3)
    residual = torch.tensor([1e-3, 0.03, 0.3, 1.0, 4.0])
    variance, distrusted = fusion.fused(own, residual)
    torch.testing.assert_close(variance[2:], residual[2:], rtol=0.1, atol=0)
    assert distrusted.tolist() == [False, True, True, True, True]


def test_one_variance_for_all_images_makes_no_sharp_gate() -> None:
    features = normal(16, 3)
    same = torch.full((16,), 0.1)
    fusion = Fusion.fit(same, same, features, (same, same, features))
    assert fusion.spread == MIN_SPREAD
    assert fusion.log_ratio == 0


def test_distance_is_mahalanobis() -> None:
    mixing = torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    features = normal(NUM_IMAGES, 2, seed=7) @ mixing.T + 3
    fusion = Fusion.fit(*[torch.full((NUM_IMAGES,), 0.1)] * 2, features, (*[torch.full((1,), 0.1)] * 2, features[:1]))
    # shrinkage towards the diagonal changes what is off it by a tenth
    covariance = mixing @ mixing.T
    covariance = 0.9 * covariance + 0.1 * covariance.diagonal().diag()
    points = torch.tensor([[3.0, 3.0], [5.0, 3.0], [3.0, 6.0]])
    expected = torch.einsum("bi,ij,bj->b", points - 3, torch.linalg.inv(covariance), points - 3).sqrt()
    torch.testing.assert_close(fusion.distance(points)[1:], expected[1:], rtol=0.05, atol=0)
    assert float(fusion.distance(points)[0]) < 0.1


def test_distance_raises_variance_as_it_was_fitted(fusion: Fusion) -> None:
    assert fusion.distance_gain == pytest.approx(2, rel=0.1)
    usual = math.exp(fusion.log_distance)
    features = torch.zeros(2, 5)
    features[:, 0] = torch.tensor([0.5, 3.0]) * usual
    near, far = (fusion.by_distance(torch.full((2,), 0.01), features) / 0.01).tolist()
    assert near == 1
    assert far == pytest.approx(9, rel=0.25)


def test_a_file_gives_it_back(fusion: Fusion) -> None:
    again = Fusion.from_tensors(fusion.tensors())
    own, residual = torch.tensor([0.01, 0.2]), torch.tensor([0.3, 0.2])
    torch.testing.assert_close(again.fused(own, residual), fusion.fused(own, residual), rtol=0, atol=0)
    features = normal(2, 5)
    torch.testing.assert_close(again.by_distance(own, features), fusion.by_distance(own, features), rtol=0, atol=0)
