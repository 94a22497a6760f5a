"""Flow's and EDM's noise levels: as diffusers has them, and DDIM as the Euler step of rectified flow."""

import math

import diffusers
import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.diffusion import DDIM, NoiseLevels
from workbench.diffusion.noise_levels import DynamicShift, EDMLevels, FlowLevels, Shift
from workbench.diffusion.prediction import estimates

SHAPE = (4, 64, 48)
SHIFTS: list[dict[str, object]] = [
    {},
    {"shift": 3.0},
    {"use_dynamic_shifting": True},
    {"use_dynamic_shifting": True, "time_shift_type": "linear", "base_shift": 1.5, "max_shift": 3.0},
]


def draws(num: int) -> tuple[Tensor, Tensor]:
    one, two = torch.randn(2, num, 4, 2, 2, generator=randomness.generator("flow"), dtype=torch.float64)
    return one, two


@pytest.mark.parametrize("settings", SHIFTS, ids=str)
@pytest.mark.parametrize("num_steps", [1, 4, 28])
def test_a_flow_chain_is_that_of_diffusers(settings: dict[str, object], num_steps: int) -> None:
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    shift = Shift(float(str(settings.get("shift", 1.0))))
    given: dict[str, object] = {"sigmas": [1 - i / num_steps for i in range(num_steps)]}
    if "use_dynamic_shifting" in settings:
        config = theirs.config
        shift = DynamicShift(1.0, config.base_shift, config.max_shift, 256, 4096, config.time_shift_type)
        given["mu"] = shift.mu(SHAPE)
    theirs.set_timesteps(**given)
    chain = FlowLevels(shift).chain(num_steps, SHAPE)
    torch.testing.assert_close(chain.time.float(), theirs.timesteps, rtol=1e-5, atol=1e-3)
    sigma = chain.time / 1000
    expected = (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)
    torch.testing.assert_close(chain.alpha_bar, torch.cat([expected, torch.ones(1).double()]))


def test_the_shift_grows_with_the_latents() -> None:
    shift = DynamicShift()
    assert shift.mu((16, 32, 32)) == pytest.approx(0.5)
    assert shift.mu((16, 128, 128)) == pytest.approx(1.15)
    small, large = (FlowLevels(shift).chain(10, (16, n, n)).time for n in (32, 128))
    assert (large[1:] > small[1:]).all()


def test_ddim_is_the_euler_step_of_rectified_flow() -> None:
    """x' = x + (sigma' - sigma) v, diffusers' own step, for an arbitrary answer v."""
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0)
    theirs.set_timesteps(sigmas=[1 - i / 5 for i in range(5)])
    levels = FlowLevels(Shift(2.0))
    chain = levels.chain(5, SHAPE)
    for i in range(5):
        x, v = draws(1)
        time = chain.time[i : i + 1]
        signal, noise = (c.reshape(-1, 1, 1, 1) for c in levels.mixture_at(time))
        u, eps = estimates("flow_prediction", v, x, signal, noise)
        z = DDIM().step(u, eps, chain.alpha_bar[i : i + 1], chain.alpha_bar[i + 1 : i + 2], torch.zeros_like(x))
        stepped = theirs.step(v, theirs.timesteps[i], x).prev_sample
        scale = levels.scale_at(chain.time[i + 1 : i + 2]) if i < 4 else torch.ones(1).double()
        torch.testing.assert_close(scale.reshape(-1, 1, 1, 1) * z, stepped.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 18])
def test_an_edm_chain_is_that_of_diffusers(num_steps: int) -> None:
    theirs = diffusers.EDMEulerScheduler(sigma_min=0.01, sigma_max=40.0, sigma_data=0.7, rho=5.0)
    theirs.set_timesteps(num_steps)
    levels = EDMLevels(0.01, 40.0, 0.7, 5.0)
    chain = levels.chain(num_steps, SHAPE)
    torch.testing.assert_close(chain.time.float(), theirs.timesteps, rtol=1e-4, atol=1e-5)
    sigma = theirs.sigmas[:-1].double()
    torch.testing.assert_close(chain.alpha_bar[:-1], 0.49 / (0.49 + sigma**2), rtol=1e-4, atol=0)
    assert levels.cleanest == pytest.approx(math.log(0.01) / 4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sigma", [0.05, 0.7, 30.0])
def test_edms_preconditioning_is_that_of_diffusers(prediction: str, sigma: float) -> None:
    """Its input is c_in x, and its answer F stands for c_skip x + c_out F."""
    theirs = diffusers.EDMEulerScheduler(sigma_data=0.7, prediction_type=prediction)
    levels = EDMLevels(sigma_data=0.7)
    x, answer = draws(3)
    at, level = torch.full((3,), math.log(sigma) / 4, dtype=torch.float64), torch.tensor(sigma).double()
    inputs = theirs.precondition_inputs(x, level)
    z = x / math.sqrt(0.7**2 + sigma**2)  # of variance 1
    torch.testing.assert_close(levels.scale_at(at).reshape(-1, 1, 1, 1) * z, inputs)
    signal, noise = (c.reshape(-1, 1, 1, 1) for c in levels.mixture_at(at))
    u, _ = estimates("edm" if prediction == "epsilon" else "v_prediction", answer, inputs, signal, noise)
    torch.testing.assert_close(0.7 * u, theirs.precondition_outputs(x, answer, level))


@pytest.mark.parametrize("levels", [FlowLevels(), EDMLevels()], ids=["flow", "edm"])
def test_chains_without_steps_are_refused(levels: NoiseLevels) -> None:
    with pytest.raises(UserError, match="num_steps must be at least 1, got 0"):
        levels.chain(0, SHAPE)


@pytest.mark.parametrize("arguments", [{"sigma_min": 0.0}, {"sigma_max": 0.001}, {"sigma_data": 0.0}, {"std": 0.0}])
def test_edm_levels_that_cannot_be(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"need 0 < sigma_min|must be positive"):
        EDMLevels(**arguments)
