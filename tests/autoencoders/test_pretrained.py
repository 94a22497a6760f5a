"""Weights that others trained: found by class, never changed, named by what they hold."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from workbench.autoencoders import KL, VQ, Autoencoder, AutoencoderRecipe, Pretrained, Tiny
from workbench.autoencoders import pretrained as module
from workbench.autoencoders.pretrained import GreyAutoencoder
from workbench.core import randomness
from workbench.core.config import UserError

SIZE = 16
RECIPES = (
    Tiny(latent_channels=4, width=8, num_stages=2, num_blocks=1),
    KL(latent_channels=4, block_out_channels=(16, 16)),
    VQ(latent_channels=4, block_out_channels=(16, 16), num_codes=32),
)
every = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.kind)


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Digests and downloads are remembered in a process; tests change folders."""
    for cached in (module._digest, module.download, module.zoo.weights_digest):
        cached.cache_clear()


def saved(recipe: AutoencoderRecipe, folder: Path, channels: int = 3) -> Autoencoder:
    """A new autoencoder that somebody else has saved in `folder`, with a scale and shift of theirs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = recipe.build(channels).eval()
    autoencoder.normalise(0.5, 0.25)
    autoencoder.save(folder)
    return recipe.load(folder)


def images(channels: int = 3) -> Tensor:
    return randomness.uniform(torch.arange(3), ("pretrained",), (channels, SIZE, SIZE))


@every
def test_the_class_in_the_config_chooses_the_adapter(recipe: AutoencoderRecipe, tmp_path: Path) -> None:
    own, x = saved(recipe, tmp_path), images()
    given = Pretrained(source=str(tmp_path)).build(3)
    assert type(given) is type(own)
    with torch.no_grad():
        torch.testing.assert_close(given.encode(x), own.encode(x), rtol=0, atol=0)
        torch.testing.assert_close(given.decode(own.encode(x)), own.decode(own.encode(x)), rtol=0, atol=0)


@every
def test_grey_images_are_repeated_and_colours_averaged(recipe: AutoencoderRecipe, tmp_path: Path) -> None:
    colour, x = saved(recipe, tmp_path), images(1)
    grey = Pretrained(source=str(tmp_path)).build(1)
    assert isinstance(grey, GreyAutoencoder)
    assert grey.image_channels == 1
    assert grey.latent_shape((1, SIZE, SIZE)) == colour.latent_shape((3, SIZE, SIZE))
    with torch.no_grad():
        z = colour.encode(x.repeat(1, 3, 1, 1))
        torch.testing.assert_close(grey.encode(x), z, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(grey.decode(z), colour.decode(z).mean(1, keepdim=True), rtol=1e-5, atol=1e-6)
        features, z_copy = grey.encoder_copy()(x)
    torch.testing.assert_close(z_copy, z, rtol=1e-4, atol=1e-5)
    assert features.shape[2:] == z.shape[2:]
    z.requires_grad_(True)
    (gradient,) = torch.autograd.grad(grey.decode(z).square().sum(), z)
    assert (gradient.abs().sum((1, 2, 3)) > 0).all()


def test_colour_images_need_a_colour_model(tmp_path: Path) -> None:
    saved(RECIPES[0], tmp_path, channels=1)
    with pytest.raises(UserError, match="needs 1-channel images, but these have 3"):
        Pretrained(source=str(tmp_path)).build(3).latent_shape((3, SIZE, SIZE))


def test_what_is_saved_is_scale_and_shift_alone(tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    saved(RECIPES[0], theirs)
    before = {path.name: path.read_bytes() for path in theirs.iterdir()}
    recipe = Pretrained(source=str(theirs))
    autoencoder = recipe.build(1)
    autoencoder.normalise(2.0, -0.5)
    recipe.save(autoencoder, mine)
    assert [path.name for path in mine.iterdir()] == ["normalisation.json"]
    loaded = recipe.load(mine)
    assert (loaded.scale, loaded.shift, loaded.image_channels) == (2.0, -0.5, 1)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(images(1)), autoencoder.encode(images(1)), rtol=0, atol=0)
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == before


def test_the_identity_is_of_the_contents(tmp_path: Path) -> None:
    one, copy = tmp_path / "one", tmp_path / "copy"
    saved(RECIPES[0], one)
    shutil.copytree(one, copy)
    assert Pretrained(source=str(one)).identity == Pretrained(source=str(copy)).identity
    assert Pretrained(source=str(tmp_path), subfolder="one").identity == Pretrained(source=str(one)).identity
    assert Pretrained(source=str(one), scaling="config").identity != Pretrained(source=str(one)).identity
    weights = next(copy.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    module.zoo.weights_digest.cache_clear()
    module._digest.cache_clear()
    assert Pretrained(source=str(one)).identity != Pretrained(source=str(copy)).identity


def change_config(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"source": "owner/some-vae"}, "pretrained owner some-vae"),
        ({"source": "owner/some-vae", "revision": "v2"}, "pretrained owner some-vae v2"),
        (
            {"source": "owner/model", "subfolder": "vae", "scaling": "config"},
            "pretrained owner model vae config scaling",
        ),
        ({"source": "/models/one/vae"}, "pretrained one vae"),
        ({"source": "/vae"}, "pretrained vae"),
    ],
)
def test_tables_tell_two_by_where_they_lie(fields: dict[str, str], label: str) -> None:
    assert Pretrained.parse(fields).label == label


def test_an_unknown_class_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    saved(RECIPES[0], tmp_path)
    change_config(tmp_path, _class_name="AutoencoderDC")
    with pytest.raises(
        UserError, match=r"a AutoencoderDC.*AutoencoderKL, AutoencoderTiny, VQModel, CorrectedPatches, TAEF2"
    ) as raised:
        Pretrained(source=str(tmp_path)).build(3)
    assert "\n" not in str(raised.value)


def test_a_whole_latent_diffusion_model_asks_for_its_subfolder(tmp_path: Path) -> None:
    saved(RECIPES[1], tmp_path / "vae")
    with pytest.raises(UserError, match="has no model"):
        Pretrained(source=str(tmp_path)).build(3)
    assert Pretrained(source=str(tmp_path), subfolder="vae").build(3).latent_channels == 4


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_config_that_names_no_class_is_one_line(content: str, tmp_path: Path) -> None:
    saved(RECIPES[0], tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="does not name the model's class") as raised:
        Pretrained(source=str(tmp_path)).build(3)
    assert "\n" not in str(raised.value)


def test_a_hub_id_is_downloaded_once_and_only_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(RECIPES[0], tmp_path / "vae")
    asked: list[tuple[Any, ...]] = []

    def download(name: str, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str] | None) -> str:
        asked.append((name, revision, allow_patterns, ignore_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    recipe = Pretrained(source="somebody/model", subfolder="vae", revision="v1")
    assert recipe.build(3).latent_channels == 4
    assert recipe.identity == Pretrained(source=str(tmp_path / "vae")).identity
    assert asked == [("somebody/model", "v1", ["vae/*.json", "vae/*.safetensors"], None)]
    Pretrained(source="somebody/vae").folder()
    assert asked[1:] == [("somebody/vae", None, ["*.json", "*.safetensors"], ["*/*"])]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("somebody/model", "is neither a folder nor a model found on the Hub"),
        ("/no/such/folder", "'/no/such/folder' is not a folder$"),
        ("a b c", "'a b c' is not a folder$"),
    ],
)
def test_what_is_neither_a_folder_nor_on_the_hub_is_one_line(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        _ = Pretrained(source=source).identity
    assert "\n" not in str(raised.value)


def taef2(folder: Path, target: Path) -> Path:
    """A copy of TAEF2's state dicts, to be harmed."""
    target.mkdir()
    for name in module.TAEF2_FILES:
        shutil.copy(folder / "weights" / name, target / name)
        (target / name).chmod(0o644)
    return target


def psnr(x_hat: Tensor, x: Tensor) -> float:
    return float(-10 * (x_hat.clamp(0, 1) - x).square().mean().log10())


@pytest.mark.shared
def test_taef2_reconstructs_a_photograph(shared: Path) -> None:
    with Image.open(shared / "data" / "cbsd68" / "103070.png") as picture:
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None, :, :256, :256].float() / 255
    recipe = Pretrained(source=str(shared / "weights"))
    colour, grey = recipe.build(3), recipe.build(1)
    assert colour.latent_shape((3, 256, 256)) == (32, 32, 32)
    with torch.no_grad():
        z = colour.encode(x)
        assert psnr(colour.decode(z), x) > 28
        # noise on the latent is seen, so it is not the picture that came through
        noisy = z + torch.randn(z.shape, generator=randomness.generator("taef2"))
        assert psnr(colour.decode(noisy), x) < 25
        x = x.mean(1, keepdim=True)
        assert psnr(grey.decode(grey.encode(x)), x) > 28


@pytest.mark.shared
def test_taef2_is_loaded_strictly(shared: Path, tmp_path: Path) -> None:
    folder = taef2(shared, tmp_path / "taef2")
    recipe = Pretrained(source=str(folder))
    assert recipe.identity == Pretrained(source=str(shared / "weights")).identity
    path = folder / "taef2_decoder.pth"
    state = torch.load(path, weights_only=True)
    torch.save({name: tensor for name, tensor in state.items() if name != "19.bias"}, path)
    with pytest.raises(UserError, match=r"taef2_decoder\.pth does not have TAEF2's weights.*19\.bias"):
        recipe.build(3)
    path.write_bytes(b"no tensors")
    with pytest.raises(UserError, match=r"taef2_decoder\.pth is not a readable state dict"):
        recipe.build(3)
    path.unlink()
    module._digest.cache_clear()
    with pytest.raises(UserError, match=r"needs both of its state dicts.*taef2_decoder\.pth is missing"):
        _ = recipe.identity
