"""The prior's three parameterisations agree, its training targets are right, and it is saved and loaded strictly."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from linear_stubs import CHANNELS, Config
from torch import Tensor, nn

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.diffusion import UNetPrior, UNetRecipe, diffuse, load_prior

PREDICTIONS = ["epsilon", "sample", "v_prediction"]
TINY = UNetRecipe(block_out_channels=(16,), num_timesteps=50)
LATENT_SHAPE = (CHANNELS, 8, 8)

every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)


class StubUNet(nn.Module):
    """Answers `answer(z, timestep)`; of a diffusers UNet's interface, what a Prior uses."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer
        self.config = Config(in_channels=CHANNELS)
        self.seen: list[Tensor] = []

    def forward(self, z: Tensor, timestep: Tensor) -> SimpleNamespace:
        self.seen.append(timestep)
        return SimpleNamespace(sample=self.answer(z, timestep))


def prior_that_answers(prediction: str, answer: Callable[[Tensor, Tensor], Tensor]) -> UNetPrior:
    from diffusers import DDPMScheduler

    return UNetPrior(StubUNet(answer), DDPMScheduler(num_train_timesteps=50, prediction_type=prediction))


def draws(num: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """z0, eps and their timesteps, from the cleanest to the noisiest."""
    z0, eps = torch.randn(2, num, *LATENT_SHAPE, generator=randomness.generator("prior"))
    return z0, eps, torch.linspace(0, 49, num).long()


def target(prediction: str, z0: Tensor, eps: Tensor, a: Tensor) -> Tensor:
    """What a perfect network answers (arXiv 2202.00512, appendix D)."""
    a = a.float().reshape(-1, 1, 1, 1)
    return {"epsilon": eps, "sample": z0, "v_prediction": a.sqrt() * eps - (1 - a).sqrt() * z0}[prediction]


@every_prediction
def test_a_perfect_network_gives_the_clean_latent_and_the_noise(prediction: str) -> None:
    z0, eps, timestep = draws()
    prior = prior_that_answers(prediction, lambda z, t: target(prediction, z0, eps, prior.levels.alpha_bar_at(t)))
    z0_hat, eps_hat = prior.predict(diffuse(z0, eps, prior.levels.alpha_bar_at(timestep)), timestep)
    torch.testing.assert_close(z0_hat, z0, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(eps_hat, eps, rtol=1e-3, atol=1e-3)


@every_prediction
def test_whatever_the_network_answers_the_two_estimates_add_up_to_z(prediction: str) -> None:
    z, output, timestep = draws()
    prior = prior_that_answers(prediction, lambda *_: output)
    z0_hat, eps_hat = prior.predict(z, timestep)
    torch.testing.assert_close(diffuse(z0_hat, eps_hat, prior.levels.alpha_bar_at(timestep)), z, rtol=1e-4, atol=1e-4)


@every_prediction
def test_predictions_do_not_depend_on_the_neighbours(prediction: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = TINY.replace(prediction_type=prediction).build(LATENT_SHAPE).eval()
    z, _, timestep = draws()
    with torch.no_grad():
        whole = prior.predict(z, timestep)
        for i in range(len(z)):
            alone = prior.predict(z[i : i + 1], timestep[i : i + 1])
            for one, of_whole in zip(alone, whole, strict=True):
                torch.testing.assert_close(one[0], of_whole[i], rtol=1e-4, atol=1e-4)


@every_prediction
def test_predictions_pass_gradients(prediction: str) -> None:
    z, _, timestep = draws()
    prior = prior_that_answers(prediction, lambda z, _: 2 * z)
    z.requires_grad_(True)
    z0_hat, _ = prior.predict(z, timestep)
    (grad,) = torch.autograd.grad(z0_hat.sum(), z)
    assert (grad != 0).all()


@every_prediction
def test_the_training_loss_of_a_perfect_network_is_zero(prediction: str) -> None:
    z0, _, _ = draws(64)

    def from_truth(z: Tensor, timestep: Tensor) -> Tensor:
        a = prior.levels.alpha_bar_at(timestep)
        b = a.float().reshape(-1, 1, 1, 1)
        return target(prediction, z0, (z - b.sqrt() * z0) / (1 - b).sqrt(), a)

    prior = prior_that_answers(prediction, from_truth)
    loss, _ = prior.training_loss(z0, randomness.generator("loss"))
    assert float(loss) < 1e-6
    wrong = prior_that_answers(prediction, lambda z, t: from_truth(z, t) + 0.5)
    wrong_loss, _ = wrong.training_loss(z0, randomness.generator("loss"))
    assert float(wrong_loss) == pytest.approx(0.25, rel=1e-2)


def test_training_draws_every_timestep_and_only_from_its_generator() -> None:
    prior = prior_that_answers("epsilon", lambda z, _: z)
    z0 = torch.zeros(2000, *LATENT_SHAPE[:1], 1, 1)
    first, _ = prior.training_loss(z0, randomness.generator(1))
    again, _ = prior.training_loss(z0, randomness.generator(1))
    other, _ = prior.training_loss(z0, randomness.generator(2))
    assert first == again
    assert first != other
    assert set(prior.network.seen[0].tolist()) == set(range(50))


def test_a_few_steps_lower_the_training_loss() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = TINY.build(LATENT_SHAPE)
    z0 = torch.ones(16, *LATENT_SHAPE)
    optimiser = torch.optim.Adam(prior.parameters(), 3e-3)

    def loss() -> Tensor:
        return prior.training_loss(z0, randomness.generator("same"))[0]

    before = float(loss().detach())
    for _ in range(5):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert float(loss().detach()) < 0.8 * before


def test_the_recipe_builds_what_it_says() -> None:
    prior = UNetRecipe(block_out_channels=(16, 32), num_timesteps=30, prediction_type="epsilon").build((3, 16, 16))
    assert prior.latent_channels == 3
    assert prior.levels.num_timesteps == 30
    assert prior.scheduler.config.prediction_type == "epsilon"
    z = torch.zeros(2, 3, 16, 16)
    assert [estimate.shape for estimate in prior.predict(z, torch.tensor([0, 29]))] == [z.shape, z.shape]


def test_betas_must_grow() -> None:
    with pytest.raises(UserError, match="beta_end must be above beta_start"):
        UNetRecipe().replace(beta_end=0.001)


def test_betas_must_leave_signal() -> None:
    with pytest.raises(UserError, match=r"leave no signal long before timestep 99999: lower beta_end or num_timesteps"):
        UNetRecipe().replace(num_timesteps=100_000)
    assert UNetRecipe(source="a folder", num_timesteps=100_000), "its own noise levels count"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[UNetPrior, Path]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        prior = TINY.build(LATENT_SHAPE).eval()
    folder = tmp_path_factory.mktemp("prior")
    prior.save(folder)
    return prior, folder


@pytest.fixture
def folder(saved: tuple[UNetPrior, Path], tmp_path: Path) -> Path:
    """A copy of the saved prior, to damage."""
    import shutil

    return Path(shutil.copytree(saved[1], tmp_path / "prior"))


def weights(folder: Path) -> Path:
    (path,) = (folder / "unet").glob("*.safetensors")
    return path


def edit(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_round_trip_in_half_precision(saved: tuple[UNetPrior, Path]) -> None:
    prior, folder = saved
    loaded = load_prior(folder)
    assert not loaded.training
    assert {parameter.dtype for parameter in prior.parameters()} == {torch.float32}
    assert weights(folder).stat().st_size < 2.5 * sum(parameter.numel() for parameter in prior.parameters())
    for (name, ours), (_, theirs) in zip(prior.named_parameters(), loaded.named_parameters(), strict=True):
        assert theirs.dtype == torch.float32
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-6, msg=name)
    torch.testing.assert_close(loaded.levels.alpha_bar, prior.levels.alpha_bar)
    z, _, timestep = draws()
    with torch.no_grad():
        for one, other in zip(prior.predict(z, timestep), loaded.predict(z, timestep), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-2, atol=2e-2)


def remove_weights(folder: Path) -> None:
    weights(folder).unlink()


def remove_config(folder: Path) -> None:
    (folder / "unet" / "config.json").unlink()


def cut_weights(folder: Path) -> None:
    path = weights(folder)
    path.write_bytes(path.read_bytes()[:-100])


def cut_header(folder: Path) -> None:
    path = weights(folder)
    path.write_bytes(path.read_bytes()[:20])


def cut_config(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    path.write_text(path.read_text()[:-40])


def other_shape(folder: Path) -> None:
    edit(folder / "unet" / "config.json", block_out_channels=[32])


def other_class(folder: Path) -> None:
    edit(folder / "unet" / "config.json", _class_name="UNet1DModel")


def drop_a_key(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights(folder))
    del tensors["conv_in.bias"]
    save_file(tensors, weights(folder), metadata={"format": "pt"})


def add_a_key(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(weights(folder)) | {"spare.bias": torch.zeros(3)}, weights(folder), metadata={"format": "pt"})


def remove_scheduler(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").unlink()


def cut_scheduler(folder: Path) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text()[:-40])


def no_schedule(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", beta_start=0.0, beta_end=0.0)


def unknown_prediction(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", prediction_type="flow")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (remove_weights, "no weights"),
        (remove_config, "has no model"),
        (cut_weights, "truncated or damaged|cannot load"),
        (cut_header, "truncated or damaged|cannot load"),
        (cut_config, "config.json"),
        (other_shape, "cannot load|do not fit"),
        (other_class, "holds a UNet1DModel, not a UNet2DModel"),
        (drop_a_key, "conv_in.bias"),
        (add_a_key, "spare.bias"),
        (remove_scheduler, "scheduler_config.json"),
        (cut_scheduler, "scheduler_config.json"),
        (no_schedule, "alpha_bar must be"),
        (unknown_prediction, "flow"),
    ],
)
def test_unsound_folders_are_refused_in_one_line(folder: Path, harm: Callable[[Path], None], words: str) -> None:
    harm(folder)
    with pytest.raises(UserError, match=words) as raised:
        load_prior(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no model"):
        load_prior(tmp_path / "nowhere")
