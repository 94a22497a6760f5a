"""A draw depends on its key and on nothing else."""

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from workbench.core import randomness

IDS = torch.tensor([11, -5, 2**62, 0])


@pytest.mark.parametrize("draw", [randomness.normal, randomness.uniform])
def test_a_draw_depends_on_the_image_and_not_on_its_batch(draw: Callable[..., Tensor]) -> None:
    whole = draw(IDS, ("start", 3), (2, 4))
    assert whole.shape == (4, 2, 4)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(draw(IDS[order], ("start", 3), (2, 4)), whole[order], rtol=0, atol=0)
    for number, image_id in enumerate(IDS):
        torch.testing.assert_close(draw(image_id[None], ("start", 3), (2, 4))[0], whole[number], rtol=0, atol=0)


def test_global_state_is_neither_read_nor_changed() -> None:
    torch.manual_seed(0)
    first = randomness.normal(IDS, ("a",), (3,))
    state = torch.get_rng_state()
    torch.manual_seed(1)
    torch.testing.assert_close(randomness.normal(IDS, ("a",), (3,)), first, rtol=0, atol=0)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


KEYS = [("a",), ("b",), ("a", 0), ("a", 1), (1, "a"), (0, "a"), ("a", "0", "1"), ("a", "01"), ("a0", "1"), ()]


def test_other_keys_and_images_give_other_draws() -> None:
    draws = torch.stack([randomness.normal(IDS, key, (4,)) for key in KEYS]).flatten(0, 1)
    assert len(draws.unique(dim=0)) == len(KEYS) * len(IDS)


def test_draws_of_neighbouring_keys_are_uncorrelated() -> None:
    num = 4000
    a = randomness.normal(torch.arange(num), (0, "noise"), ())
    for b in (randomness.normal(torch.arange(num), (1, "noise"), ()), a.roll(1)):
        correlation = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
        assert abs(correlation) < 5 / math.sqrt(num)


def test_distributions() -> None:
    num = 4000
    z = randomness.normal(torch.arange(num), ("z",), ())
    assert abs(float(z.mean())) < 5 / math.sqrt(num)
    assert float(z.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / num))
    u = randomness.uniform(torch.arange(num), ("u",))
    assert u.shape == (num,)
    assert u.min() >= 0
    assert u.max() < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=5 / math.sqrt(12 * num))


def test_the_same_key_gives_the_same_draw_in_another_process() -> None:
    script = "from workbench.core import randomness; print(randomness.generator('study', 7).initial_seed())"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}
    )
    assert int(answer.stdout) == randomness.generator("study", 7).initial_seed()


def test_per_image_gives_each_image_its_own_generator() -> None:
    seeds: list[int] = []

    def draw(g: torch.Generator) -> Tensor:
        seeds.append(g.initial_seed())
        return torch.zeros(())

    randomness.per_image(IDS, ("k",), draw)
    assert seeds == [randomness.generator("k", image_id).initial_seed() for image_id in IDS.tolist()]
    assert len(set(seeds)) == len(IDS)
