"""Identities of the noise schedule and its grids."""

import pytest
import torch
from stubs import schedule

from workbench.config import UserError
from workbench.diffusion import PriorRecipe, Schedule


def test_snr_and_alpha_bar_say_the_same() -> None:
    s = schedule()
    torch.testing.assert_close(s.snr / (1 + s.snr), s.alpha_bar)
    torch.testing.assert_close(torch.sigmoid(s.log_snr), s.alpha_bar)
    assert (s.snr.diff() < 0).all()
    assert s.alpha_bar.dtype == torch.float64


def test_alpha_bar_at_gives_each_image_its_own_and_one_at_the_clean_end() -> None:
    s = schedule()
    timestep = torch.tensor([5, 0, s.num_timesteps - 1, -1])
    expected = [float(s.alpha_bar[5]), float(s.alpha_bar[0]), float(s.alpha_bar[-1]), 1.0]
    assert s.alpha_bar_at(timestep).tolist() == expected


def test_alpha_bar_is_the_product_of_the_recipes_alphas() -> None:
    recipe = PriorRecipe(block_out_channels=(16,), num_timesteps=50)
    s = recipe.build((4, 8, 8)).schedule
    betas = torch.linspace(recipe.beta_start**0.5, recipe.beta_end**0.5, 50, dtype=torch.float64) ** 2
    torch.testing.assert_close(s.alpha_bar, (1 - betas).cumprod(0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("num_steps", [1, 10, 500, 1000])
def test_a_grid_goes_from_noise_to_the_clean_end_in_even_steps(num_steps: int) -> None:
    s = schedule()
    grid = s.grid(num_steps)
    stride = s.num_timesteps // num_steps
    assert grid.shape == (num_steps,)
    assert grid.dtype == torch.int64
    assert grid[0] == s.num_timesteps - 1
    assert (grid.diff() == -stride).all()
    assert grid[-1] - stride == -1  # the step that follows the last one reaches the clean end


@pytest.mark.parametrize("num_timesteps", [2, 7, 100])
def test_every_grid_descends_without_repetition(num_timesteps: int) -> None:
    s = Schedule(torch.linspace(0.99, 0.01, num_timesteps))
    for num_steps in range(1, num_timesteps + 1):
        grid = s.grid(num_steps)
        assert len(grid) == num_steps
        assert grid[0] == num_timesteps - 1
        assert (grid.diff() < 0).all()
        assert grid[-1] >= 0
    assert s.grid(num_timesteps).tolist() == list(reversed(range(num_timesteps)))


@pytest.mark.parametrize("num_steps", [0, -1, 1001])
def test_grids_that_cannot_be(num_steps: int) -> None:
    with pytest.raises(UserError, match=rf"num_steps must be 1 \.\.\. 1000, got {num_steps}"):
        schedule().grid(num_steps)


@pytest.mark.parametrize(
    "alpha_bar", [[0.9, 0.9, 0.1], [0.1, 0.9], [1.0, 0.5], [0.5, 0.0], [0.5, float("nan")], [[0.9, 0.1]]]
)
def test_rows_that_are_no_schedule(alpha_bar: list[float]) -> None:
    with pytest.raises(ValueError, match="alpha_bar must"):
        Schedule(torch.tensor(alpha_bar))
