import math

import numpy as np
import pytest
import torch

from workbench.core.config import UserError
from workbench.metrics.calibration import collect, join, summarise, take


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    z0 = torch.randn(24, 2, 4, 4, generator=generator)
    return z0 + 0.3 * torch.randn(z0.shape, generator=generator), z0, torch.linspace(0.05, 0.2, 24)


def test_what_is_kept_of_an_image(batch) -> None:
    z_hat, z0, var_hat = batch
    rows = collect(*batch)
    error = (z_hat.double() - z0.double()).numpy()
    np.testing.assert_allclose(rows["s2"], error.reshape(24, -1).var(axis=1, ddof=1))
    z = error / np.sqrt(var_hat.double().numpy())[:, None, None, None]
    np.testing.assert_allclose(rows["moments"][:, 2], (z**3).mean((1, 2, 3)))
    np.testing.assert_allclose(rows["product"], (error * z_hat.double().numpy()).mean((2, 3)))
    assert (rows["counts"].sum(1) == 32).all()
    assert rows["latent_shape"].tolist() == [[2, 4, 4]] * 24
    assert {len(values) for values in rows.values()} == {24}


def test_a_thousand_images_are_small() -> None:
    rows = collect(torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8), torch.ones(2))
    assert sum(values.nbytes for values in rows.values()) / 2 < 8000


def test_batches_do_not_matter(batch) -> None:
    parts = [collect(*(tensor[chosen] for tensor in batch)) for chosen in (slice(0, 7), slice(7, 24))]
    whole, joined = collect(*batch), join(parts)
    assert whole.keys() == joined.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(joined[name], values, rtol=1e-12)


def test_a_group_is_its_images(batch) -> None:
    rows, chosen = collect(*batch), np.arange(24) % 2 == 0
    alone = collect(*(tensor[torch.from_numpy(chosen)] for tensor in batch))
    for name, values in take(rows, chosen).items():
        np.testing.assert_array_equal(values, alone[name])
    np.testing.assert_array_equal(take(rows, [3, 1])["s2"], rows["s2"][[3, 1]])


def test_a_file_holds_them(batch, tmp_path) -> None:
    rows = collect(*batch)
    np.savez(tmp_path / "rows.npz", **rows)
    with np.load(tmp_path / "rows.npz") as stored:
        assert summarise(dict(stored), num_bins=2).figures == summarise(rows, num_bins=2).figures


def test_a_channel_is_a_group(batch) -> None:
    z_hat, z0, var_hat = batch
    first = summarise(collect(z_hat[:, :1], z0[:, :1], var_hat), num_bins=2)
    assert first.figures["z2"].mean == pytest.approx(
        float((((z_hat - z0)[:, 0].double() ** 2).mean((1, 2)) / var_hat.double()).mean())
    )
    assert math.isnan(first.figures["channel_correlation"].mean)
    assert math.isnan(first.p_values["channel_correlation"])


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_a_variance_that_is_none_is_refused(batch, bad: float) -> None:
    z_hat, z0, var_hat = batch
    var_hat[[2, 5]] = bad
    with pytest.raises(UserError, match="var_hat of 2 of 24 images is zero, negative, infinite or NaN: train"):
        collect(z_hat, z0, var_hat)


def test_bad_latents_are_refused(batch) -> None:
    z_hat, z0, var_hat = batch
    with pytest.raises(UserError, match="error of 24 of 24 images is constant"):
        collect(z0, z0, var_hat)
    with pytest.raises(UserError, match="2 elements"):
        collect(z_hat[:, :1, :1, :1], z0[:, :1, :1, :1], var_hat)
    with pytest.raises(UserError, match="one var_hat per image"):
        collect(z_hat[:0], z0[:0], var_hat[:0])
    z_hat[4, 0, 0, 0] = math.nan
    with pytest.raises(UserError, match="1 of 24 images is infinite or NaN"):
        collect(z_hat, z0, var_hat)


def test_shapes_do_not_mix(batch) -> None:
    z_hat, z0, var_hat = batch
    with pytest.raises(UserError, match="different shapes"):
        join([collect(*batch), collect(z_hat[:, :1], z0[:, :1], var_hat)])
    with pytest.raises(UserError, match="at least one batch"):
        join([])


@pytest.mark.parametrize("num", [0, 1, 19])
def test_too_few_images_are_refused(batch, num: int) -> None:
    with pytest.raises(UserError, match="images"):
        summarise(take(collect(*batch), np.arange(num)))
