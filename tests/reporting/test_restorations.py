"""Restorations of images whose truth is known, on linear networks."""

import pytest
import torch
from linear_stubs import LinearAutoencoder, LinearPrior, StubDegradation, StubEstimator, images

from workbench.core.config import UserError
from workbench.diffusion import DDIM, Chain
from workbench.metrics import psnr
from workbench.reporting.restorations import (
    levels_section,
    pictures_section,
    restore_known,
    severity_section,
    start_section,
)
from workbench.restoration import Restorer
from workbench.severity.start import Full, OracleVariance, SNRMatch, StartRule
from workbench.solvers import NoGuidance

VARIANCE = 0.05


def restorer(start: StartRule) -> Restorer:
    autoencoder = LinearAutoencoder()
    return Restorer(
        autoencoder=autoencoder,
        prior=LinearPrior(),
        estimator=StubEstimator(autoencoder, VARIANCE),
        degradation=StubDegradation(noise_std=0.1),
        start=start,
        solver=NoGuidance(),
        sampler=DDIM(num_steps=100),
    )


def test_rows_are_of_the_images_and_their_truth() -> None:
    x, ids = images(5)
    run = restore_known(restorer(SNRMatch()), x, ids, 0.5, seed=3)
    again = StubDegradation(noise_std=0.1).measure(x, torch.full((5,), 0.5), ids, seed=3)
    torch.testing.assert_close(run.measurement.y, again.y)
    frame = run.frame()
    assert frame["image_id"].tolist() == ids.tolist()
    assert set(frame["severity"]) == {0.5}
    assert frame["sigma_hat"].tolist() == pytest.approx([VARIANCE**0.5] * 5)
    error = LinearAutoencoder().encode(again.y) - LinearAutoencoder().encode(x)
    assert frame["true_sigma"].tolist() == pytest.approx(error.flatten(1).std(1).tolist(), rel=1e-5)
    assert frame["psnr_degraded"].tolist() == pytest.approx(psnr(again.y, x).tolist(), rel=1e-5)


def test_oracles_see_the_truth() -> None:
    x, ids = images(4)
    run = restore_known(restorer(OracleVariance()), x, ids, 0.5)
    torch.testing.assert_close(run.restored.start_variance, run.s2, check_dtype=False)


def chain_of(loaded: Restorer) -> Chain:
    return loaded.sampler.chain(loaded.prior.levels, (4, 4, 4))


@pytest.mark.parametrize(("channel", "offset"), [("forward", 0.0), ("mmse", 0.0), ("forward", 3.0)])
def test_the_start_that_is_drawn_is_where_the_two_ratios_meet(channel: str, offset: float) -> None:
    x, ids = images(1)
    rule = SNRMatch(channel=channel, offset_db=offset)
    loaded = restorer(rule)
    restored = restore_known(loaded, x, ids, 0.5).restored
    timestep = int(restored.start_timestep)
    target = 10 * torch.tensor((1 if channel == "forward" else 1 - VARIANCE) / VARIANCE).log10().item() - offset
    chain = chain_of(loaded)
    position = int((chain.time > timestep).sum())
    snr_db = 10 * chain.snr.log10()
    assert snr_db[position] <= target < snr_db[position + 1]
    html = start_section(chain, rule, restored).html
    assert f"{target:.1f} dB" in html
    assert f"start {timestep}" in html


def test_a_start_that_matches_nothing_is_not_drawn() -> None:
    x, ids = images(1)
    loaded = restorer(Full())
    restored = restore_known(loaded, x, ids, 0.5).restored
    with pytest.raises(UserError, match="matches no variance"):
        start_section(chain_of(loaded), SNRMatch(), restored)


def test_sections_show_the_figures_of_the_rows() -> None:
    x, ids = images(4)
    runs = [restore_known(restorer(SNRMatch()), x, ids, level) for level in (0.0, 0.5, 1.0)]
    html = levels_section(runs, image=2).html
    assert [f"Severity {level:.2f}" in html for level in (0.0, 0.5, 1.0)] == [True] * 3
    assert html.count("<img") == 12
    for run in runs:
        row = run.frame().loc[2]
        assert f"restored {row['psnr']:.1f}" in html
        assert f"true {row['true_sigma']:.3f}" in html
    assert severity_section(runs).html.count("<svg") == 3
    pictures = pictures_section("A & B", {"one": x[:1], "two": x[1:2]}, note="so")
    assert pictures.html.count("<img") == 2
    assert "A &amp; B" in pictures.html


def test_severities_outside_are_refused() -> None:
    x, ids = images(1)
    with pytest.raises(UserError, match="severity must be in"):
        restore_known(restorer(SNRMatch()), x, ids, 1.5)
