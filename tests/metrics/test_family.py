"""Metrics as a family: what each declares is what it fills, and what none needs is not computed."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.degradations import RandomInpainting
from workbench.metrics import Absent, AnyMetric, Comparison, LatentError, Metric, Residual, SetMetric, psnr, ssim
from workbench.metrics.perceptual import LPIPSMetric
from workbench.testing.linear import LinearAutoencoder

EVERY = [member() for member in get_args(get_args(AnyMetric)[0])]
BY_NETWORK = [metric for metric in EVERY if metric.kind in ("dists", "niqe", "fid", "kid")]
"""Metrics of networks whose weights do not ship; their own tests compare them with the libraries."""
MEMBERS = [metric for metric in EVERY if metric not in BY_NETWORK]
OF_SOUND = ("si_sdr", "log_spectral_distance")
"""Their own test compares sound."""
NUM = 3


class Mean(torch.nn.Module):
    """In the place of LPIPS' network."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return (one - other).abs().mean((1, 2, 3), keepdim=True)


def comparison(channels: int = 1, needs: frozenset[str] = frozenset({"x", "z0", "measurement"})) -> Comparison:
    autoencoder, ids = LinearAutoencoder(image_channels=channels, encoder_error=0.1), torch.arange(NUM)
    x = randomness.uniform(ids, ("x",), (channels, 16, 12))
    operator = RandomInpainting()
    measurement = operator.measure(x, torch.full((NUM,), 0.5), ids, 0)
    z0 = autoencoder.encode(x)
    return Comparison(
        x_hat=(x + 0.1).clamp(0, 1),
        z_hat=z0 + 0.1,
        measurement=measurement,
        x=x,
        z0=z0 if "z0" in needs else None,
        decode=autoencoder.decode,
        measure=lambda x: operator.A(x, measurement.params),
        lpips=LPIPSMetric(Mean()),
    )


@pytest.mark.parametrize("metric", MEMBERS, ids=lambda metric: metric.kind)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_it_fills_columns_that_it_declares_and_looks_at_what_it_says(metric: Metric, channels: int) -> None:
    found = metric(comparison(channels, metric.needs))
    assert found.keys() <= metric.columns.keys()
    of_others = (metric.kind == "lpips" and channels in (2, 4)) or (metric.kind == "spectral_angle" and channels == 1)
    assert bool(found) is not (of_others or metric.kind in OF_SOUND)
    assert all(values.shape == (NUM,) and bool(values.isfinite().all()) for values in found.values())


@pytest.mark.parametrize("metric", MEMBERS, ids=lambda metric: metric.kind)
def test_the_direction_is_right(metric: Metric) -> None:
    far, near = comparison(), comparison()
    near.x_hat = near.x
    before, after = metric(far), metric(near)
    own = {"psnr", "ssim", "ssim_valid", "lpips"} & metric.columns.keys()
    for name in own:
        assert bool(
            (after[name] > before[name] if metric.columns[name] == "higher" else after[name] < before[name]).all()
        )


@pytest.mark.parametrize("metric", BY_NETWORK, ids=lambda metric: metric.kind)
def test_without_their_networks_the_others_leave_their_columns_out(metric: Metric) -> None:
    assert metric(comparison(3)) == {}
    if isinstance(metric, SetMetric):
        assert metric.features(comparison(3)) is None


def test_no_two_fill_one_column() -> None:
    names = [name for metric in EVERY for name in metric.columns]
    assert len(set(names)) == len(names)


def test_the_true_image_leaves_a_residual_of_the_noise() -> None:
    found = comparison()
    found.x_hat = found.x
    (ratio,) = Residual()(found).values()
    torch.testing.assert_close(ratio, torch.ones(NUM), rtol=0.2, atol=0.0)


def error_of(e: Tensor, z_hat: Tensor | None = None) -> dict[str, float]:
    """The means of the metric of the latent error, for an error and an estimate that is independent of it."""
    found = comparison()
    found.z_hat = torch.randn(e.shape, generator=torch.Generator().manual_seed(1)) if z_hat is None else z_hat
    found.z0 = found.z_hat - e
    return {name: float(values.mean()) for name, values in LatentError()(found).items()}


def test_what_the_latent_error_is_like() -> None:
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(NUM, 4, 32, 32, generator=generator)
    assert error_of(0.1 * white) == pytest.approx(
        {"error_kurtosis": 3.0, "error_neighbours": 0.0, "error_estimate": 0.0}, abs=0.08
    )
    smooth = torch.nn.functional.avg_pool2d(white, 3, stride=1, padding=1)
    assert error_of(smooth)["error_neighbours"] == pytest.approx(2 / 3, abs=0.05), "of three columns two are shared"
    assert error_of(white.pow(3))["error_kurtosis"] > 10
    assert error_of(white, white)["error_estimate"] == pytest.approx(1.0)
    assert error_of(white, -white)["error_estimate"] == pytest.approx(-1.0)


def test_what_was_not_asked_for_is_an_error_and_no_guess() -> None:
    with pytest.raises(ValueError, match="a metric that uses E"):
        _ = comparison(needs=frozenset({"x"})).ceiling


def test_lpips_without_weights_leaves_its_column_out() -> None:
    found = comparison()
    found.lpips = Absent("no weights")
    (lpips,) = (metric for metric in MEMBERS if metric.kind == "lpips")
    assert lpips(found) == {}


def test_figures_are_those_of_the_functions() -> None:
    found = comparison()
    figures = {name: value for metric in MEMBERS for name, value in metric(found).items()}
    torch.testing.assert_close(figures["psnr"], psnr(found.x_hat, found.x), rtol=0, atol=0)
    torch.testing.assert_close(figures["ssim"], ssim(found.x_hat, found.x), rtol=0, atol=0)
    torch.testing.assert_close(figures["psnr_ceiling"], psnr(found.ceiling, found.x), rtol=0, atol=0)
