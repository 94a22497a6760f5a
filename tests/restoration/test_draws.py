"""Several draws on linear networks: the best residual is kept, and all are paid for."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from linear_stubs import LinearAutoencoder, LinearPrior, StubDegradation, StubEstimator, images
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.diffusion import DDIM
from workbench.restoration import Restored, Restorer
from workbench.restoration.draws import kept, seed_of_draw
from workbench.severity.start import Full, SNRMatch
from workbench.solvers import LDPS, DecodeOnly

NUM_IMAGES, NUM_STEPS, NUM_DRAWS = 7, 20, 3
OPERATOR = StubDegradation(noise_std=0.02)


def variance(view: Tensor) -> Tensor:
    """Every image has its own start."""
    return 0.005 + 1.1 * view[:, 0, 0, 0].clamp(0, 1) ** 2


def restorer(**changes: Any) -> Restorer:
    autoencoder = LinearAutoencoder(scale=1.6, shift=0.3)
    given: dict[str, Any] = {
        "autoencoder": autoencoder,
        "prior": LinearPrior(),
        "estimator": StubEstimator(autoencoder, variance),
        "degradation": OPERATOR,
        "start": Full(),
        "solver": LDPS(),
        "sampler": DDIM(num_steps=NUM_STEPS, eta=0.5),
        "num_slots": 4,
    }
    return Restorer(**(given | changes))


def measurement() -> Measurement:
    x, ids = images(NUM_IMAGES)
    return OPERATOR.measure(x, torch.linspace(0, 1, NUM_IMAGES), ids, 0)


def residual(restored: Restored) -> Tensor:
    own = restored.measurement
    return own.residual_rms(OPERATOR.A(restored.x_hat, own.params))


@pytest.mark.parametrize("start", [Full(), SNRMatch()], ids=lambda start: start.kind)
def test_the_draw_with_the_smallest_residual_is_kept_at_the_cost_of_all(start: Full | SNRMatch) -> None:
    single = [restorer(seed=seed_of_draw(0, number), start=start) for number in range(NUM_DRAWS)]
    each = [one.restore_all(measurement()) for one in single]
    best = restorer(num_draws=NUM_DRAWS, start=start).restore_all(measurement())
    residuals = torch.stack([residual(draw) for draw in each])
    assert torch.equal(best.draw, residuals.argmin(0))
    assert len(best.draw.unique()) > 1, "else the test shows nothing"
    for i, number in enumerate(best.draw.tolist()):
        torch.testing.assert_close(best.x_hat[i], each[number].x_hat[i])
    for column in ("nfe", "decoder_evals", "encoder_evals", "flops"):
        costs = torch.stack([getattr(draw, column) for draw in each])
        assert (costs > 0).all()
        torch.testing.assert_close(getattr(best, column), costs.sum(0))
    assert (best.seconds >= best.start_seconds).all()


def test_the_first_draw_is_the_only_one_of_a_plain_restoration() -> None:
    plain, several = restorer().restore_all(measurement()), restorer(num_draws=NUM_DRAWS).restore_all(measurement())
    first = several.draw == 0
    assert first.any()
    torch.testing.assert_close(several.x_hat[first], plain.x_hat[first])
    assert (plain.draw == 0).all()


def test_the_best_does_not_depend_on_batches() -> None:
    whole = restorer(num_draws=NUM_DRAWS).restore_all(measurement())
    parts = [measurement().take([i]) for i in reversed(range(NUM_IMAGES))]
    single = Restored.joined(list(restorer(num_draws=NUM_DRAWS).restore(parts)), measurement().ids)
    assert torch.equal(single.draw, whole.draw)
    torch.testing.assert_close(single.x_hat, whole.x_hat, rtol=1e-4, atol=1e-5)


def test_progress_goes_through_all_draws_once() -> None:
    reported: list[float] = []
    list(restorer(num_draws=NUM_DRAWS, num_slots=NUM_IMAGES, under_way=reported.append).restore([measurement()]))
    assert reported == sorted(reported)
    assert reported[-1] == pytest.approx(NUM_IMAGES)


def test_a_residual_that_is_not_finite_is_the_last_choice() -> None:
    sound = restorer().restore_all(measurement())
    broken = replace(sound, x_hat=torch.full_like(sound.x_hat, torch.nan))
    assert (kept([broken, sound], restorer()).draw == 1).all()
    assert (kept([sound, sound], restorer()).draw == 0).all(), "of equal ones the first"


def test_a_solver_without_noise_has_no_draws() -> None:
    with pytest.raises(UserError, match="decode_only draws no noise, so that all draws are the same: set num_draws=1"):
        restorer(solver=DecodeOnly(), num_draws=2)
