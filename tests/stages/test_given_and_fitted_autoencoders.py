"""Autoencoders that take no descent are stages like the others; adversarial training is resumed like any other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_study import source, write_images

from workbench.autoencoders import PCA, VQGAN, Pretrained, Tiny
from workbench.core import randomness
from workbench.core.config import UserError
from workbench.data import Npy
from workbench.diffusion import UNetRecipe
from workbench.diffusion.latent_std import LatentStd
from workbench.stages.runtime import Runtime
from workbench.stages.train import train_autoencoder
from workbench.stages.train.encode_latents import EncodeLatents
from workbench.stages.train.train_autoencoder import TrainAutoencoder
from workbench.stages.train.train_prior import TrainPrior


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Npy:
    return source(write_images(tmp_path_factory.mktemp("images") / "images.npy"))


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path / "runs")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A colour autoencoder that somebody else has saved."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Tiny(latent_channels=4, width=8, num_stages=2, num_blocks=1).build(3).save(tmp_path / "theirs")
    return tmp_path / "theirs"


def stage_of(data: Npy, autoencoder: Any) -> TrainAutoencoder:
    return TrainAutoencoder(data=data, autoencoder=autoencoder)


@pytest.mark.usefixtures("no_training")
def test_principal_components_are_fitted_to_the_training_images(data: Npy, runtime: Runtime) -> None:
    stage = stage_of(data, PCA(latent_channels=4))
    folder = stage.ensure(runtime)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "config.json",
        "provenance.json",
        "autoencoder/config.json",
        "autoencoder/diffusion_pytorch_model.fp16.safetensors",
    }
    z = EncodeLatents(data=data, autoencoder=stage.autoencoder).load(runtime)
    assert z.shape[1:] == (4, 4, 4)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4), rtol=0, atol=0.01)
    x = data.split("train").batch(slice(None))
    autoencoder = stage.load(runtime)
    error = (autoencoder.decode(autoencoder.encode(x)) - x).square().mean()
    assert float(error) < 0.5 * float(x.var())


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("scaling", ["data", "config"])
def test_given_weights_are_only_scaled(scaling: Any, data: Npy, runtime: Runtime, theirs: Path) -> None:
    stage = stage_of(data, Pretrained(source=str(theirs), scaling=scaling))
    assert stage.latent_shape() == (4, 8, 8)
    folder = stage.ensure(runtime)
    assert [path.name for path in (folder / "autoencoder").iterdir()] == ["normalisation.json"]
    autoencoder = stage.load(runtime)
    own = Tiny().load(theirs)
    for name, tensor in own.model.state_dict().items():
        torch.testing.assert_close(autoencoder.model.state_dict()[name], tensor, rtol=0, atol=0)
    z = autoencoder.encode(data.split("train").batch(slice(None)))
    if scaling == "data":
        assert float(z.mean()) == pytest.approx(0, abs=1e-3)
        assert float(z.std()) == pytest.approx(1, abs=1e-3)
    else:
        assert (autoencoder.scale, autoencoder.shift) == (own.scale, own.shift)


@pytest.mark.usefixtures("no_training")
def test_a_given_prior_is_told_how_wide_the_latents_are(
    data: Npy, runtime: Runtime, theirs: Path, tmp_path: Path
) -> None:
    wide = Tiny().load(theirs)
    wide.normalise(2.5, 0.0)
    wide.save(theirs)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = UNetRecipe(block_out_channels=(16, 16)).build((4, 8, 8))
    own.save(tmp_path / "prior")
    as_config, measured = (Pretrained(source=str(theirs), scaling=scaling) for scaling in ("config", "measured"))
    x = data.split("train").batch(slice(None))
    u, z0 = (stage_of(data, recipe).load(runtime).encode(x) for recipe in (as_config, measured))
    std = float(u.std())
    assert std != pytest.approx(1, rel=0.1)
    torch.testing.assert_close(z0, u / std, rtol=1e-4, atol=1e-4)
    recorded = LatentStd.read(stage_of(data, measured).ensure(runtime))
    assert recorded.std == pytest.approx(std, rel=1e-4)
    assert len(recorded.by_channel) == 4

    given = UNetRecipe(source=str(tmp_path / "prior"))
    plain, told = (
        TrainPrior(data=data, autoencoder=recipe, prior=given).load(runtime) for recipe in (as_config, measured)
    )
    assert (plain.levels.std, told.levels.std) == (1, recorded.std)
    # the network sees the very same input, and its answer is the same latent in other units
    time, eps = torch.tensor([300]), randomness.normal(torch.arange(1), ("eps",), (4, 8, 8))
    a = told.levels.alpha_bar_at(time).float()
    z = a.sqrt() * u[:1] / recorded.std + (1 - a).sqrt() * eps
    x_network = told.levels.scale_at(time).float() * z
    u_hat, eps_plain = plain.predict(x_network, time)
    z0_hat, eps_told = told.predict(z, time)
    torch.testing.assert_close(z0_hat * recorded.std, u_hat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(eps_told, eps_plain, rtol=1e-4, atol=1e-4)
    recorded.save(tmp_path / "prior")
    with pytest.raises(UserError, match=r"does not bring them to 1: set autoencoder\.scaling=measured"):
        TrainPrior(data=data, autoencoder=as_config, prior=given).load(Runtime(runtime.root))
    trained = TrainPrior(data=data, autoencoder=measured, prior=UNetRecipe(source="train"))
    assert trained.levels().std == 1, "latents have unit variance"


def test_other_weights_are_another_stage(data: Npy, theirs: Path, tmp_path: Path) -> None:
    Tiny(latent_channels=4, width=8, num_stages=2, num_blocks=1).build(3).save(tmp_path / "others")
    one, other = (stage_of(data, Pretrained(source=str(path))) for path in (theirs, tmp_path / "others"))
    assert one.identity != other.identity
    assert one.identity == stage_of(data, Pretrained(source=str(theirs))).identity


def test_a_folder_of_an_unknown_class_is_refused_before_anything_is_done(data: Npy, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderDC"}')
    with pytest.raises(UserError, match="contains a AutoencoderDC, for which there is no adapter"):
        stage_of(data, Pretrained(source=str(tmp_path))).check()


SMALL_GAN = VQGAN(
    latent_channels=4, block_out_channels=(16, 16), num_codes=32, num_train_images=96, batch_size=16, source="train"
)


class StoppedError(Exception):
    """What a test raises where a user would press Ctrl-C."""


def test_adversarial_training_goes_on_where_it_was_stopped(
    data: Npy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_autoencoder, "STEPS_PER_EPOCH", 2)
    stage = stage_of(data, SMALL_GAN)
    whole = stage.ensure(Runtime(tmp_path / "whole"))
    from workbench.training import fit

    write = fit.write_csv

    def stop_at_the_second_epoch(rows: list[dict[str, float]], path: Path) -> None:
        if len(rows) == 2:
            raise StoppedError
        write(rows, path)

    broken = Runtime(tmp_path / "broken")
    monkeypatch.setattr(fit, "write_csv", stop_at_the_second_epoch)
    with pytest.raises(StoppedError):
        stage.ensure(broken)
    monkeypatch.setattr(fit, "write_csv", write)
    resumed = stage.ensure(broken)
    name = "autoencoder/diffusion_pytorch_model.fp16.safetensors"
    one, other = load_file(whole / name), load_file(resumed / name)
    for key, tensor in one.items():
        assert torch.equal(other[key], tensor), key
    assert (whole / "metrics.csv").read_text() == (resumed / "metrics.csv").read_text()
    assert "train/discriminator" in (whole / "metrics.csv").read_text()


def test_a_perceptual_weight_without_lpips_is_one_line(data: Npy, runtime: Runtime) -> None:
    stage = stage_of(data, SMALL_GAN.replace({"perceptual_weight": 0.1}))
    with pytest.raises(
        UserError, match=r"LPIPS.*absent.*train without it: --autoencoder.perceptual_weight=0"
    ) as raised:
        stage.ensure(runtime)
    assert "\n" not in str(raised.value)
