"""DDPM's noise levels, and the chains through them."""

from typing import Any

import pytest
import torch
from linear_stubs import levels

from workbench.core.config import UserError
from workbench.diffusion import Chain, DDPMLevels, UNetRecipe
from workbench.diffusion.noise_levels import snr

SHAPE = (4, 8, 8)


def test_snr_and_alpha_bar_say_the_same() -> None:
    a = levels().alpha_bar
    torch.testing.assert_close(snr(a) / (1 + snr(a)), a)
    assert (snr(a).diff() < 0).all()
    assert a.dtype == torch.float64


def test_alpha_bar_at_gives_each_image_its_own() -> None:
    a = levels().alpha_bar
    assert levels().alpha_bar_at(torch.tensor([5.0, 0.0, 999.0])).tolist() == a[[5, 0, 999]].tolist()


def test_alpha_bar_is_the_product_of_the_recipes_alphas() -> None:
    recipe = UNetRecipe(block_out_channels=(16,), num_timesteps=50)
    found = recipe.build((4, 8, 8)).levels.alpha_bar
    betas = torch.linspace(recipe.beta_start**0.5, recipe.beta_end**0.5, 50, dtype=torch.float64) ** 2
    torch.testing.assert_close(found, (1 - betas).cumprod(0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("fields", [{}, {"num_timesteps": 50}, {"beta_start": 1e-4, "beta_end": 0.02}])
def test_a_recipe_knows_its_noise_levels_before_it_is_built(fields: dict[str, Any]) -> None:
    recipe = UNetRecipe(block_out_channels=(16,), **fields)
    built = recipe.build((4, 8, 8)).levels
    assert isinstance(built, DDPMLevels)
    assert torch.equal(recipe.levels().table, built.table)


@pytest.mark.parametrize("num_steps", [1, 10, 500, 1000])
def test_a_chain_goes_from_noise_to_the_clean_end_in_even_steps(num_steps: int) -> None:
    chain = levels().chain(num_steps, SHAPE)
    stride = 1000 // num_steps
    assert len(chain) == num_steps
    assert chain.time[0] == 999
    assert (chain.time.diff() == -stride).all()
    assert chain.time[-1] - stride == -1  # the step that follows the last one reaches the clean end
    assert chain.alpha_bar.tolist() == [*levels().alpha_bar_at(chain.time).tolist(), 1.0]
    other = levels().chain(num_steps, SHAPE, clean_end=False)
    assert other.alpha_bar.tolist() == [*chain.alpha_bar[:-1].tolist(), float(levels().alpha_bar[0])]


@pytest.mark.parametrize("num_timesteps", [2, 7, 100])
def test_every_chain_descends_without_repetition(num_timesteps: int) -> None:
    some = DDPMLevels(torch.linspace(0.99, 0.01, num_timesteps))
    for num_steps in range(1, num_timesteps + 1):
        time = some.chain(num_steps, SHAPE).time
        assert len(time) == num_steps
        assert time[0] == num_timesteps - 1
        assert (time.diff() < 0).all()
        assert time[-1] >= 0
    assert some.chain(num_timesteps, SHAPE).time.tolist() == list(reversed(range(num_timesteps)))


@pytest.mark.parametrize(("num_steps", "bound"), [(0, "least 1"), (-1, "least 1"), (1001, "most T = 1000")])
def test_chains_that_cannot_be(num_steps: int, bound: str) -> None:
    with pytest.raises(UserError, match=rf"sampler\.num_steps must be at {bound}, got {num_steps}"):
        levels().chain(num_steps, SHAPE)


def test_rows_have_timesteps_as_whole_numbers_and_other_times_as_they_are() -> None:
    position = torch.tensor([0, 1, 2])
    whole = levels().chain(2, SHAPE)
    assert whole.recorded_time(position).tolist() == [999, 499, -1]
    assert whole.recorded_time(position).dtype == torch.int64
    other = Chain(torch.tensor([0.5, -0.25]).double(), torch.tensor([0.1, 0.5, 1.0]).double())
    assert other.recorded_time(position)[:2].tolist() == [0.5, -0.25]
    assert other.recorded_time(position)[2].isnan()


def test_a_chain_without_timesteps_says_so() -> None:
    with pytest.raises(UserError, match="start official needs a DDPM prior's timesteps"):
        Chain(torch.tensor([0.5]).double(), torch.tensor([0.1, 1.0]).double()).all_timesteps("start official")


@pytest.mark.parametrize(
    "alpha_bar", [[0.9, 0.9, 0.1], [0.1, 0.9], [1.0, 0.5], [0.5, -0.1], [0.5, float("nan")], [[0.9, 0.1]]]
)
def test_rows_that_are_no_noise_levels(alpha_bar: list[float]) -> None:
    with pytest.raises(ValueError, match="alpha_bar must"):
        DDPMLevels(torch.tensor(alpha_bar))
