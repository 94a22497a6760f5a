"""Properties that every autoencoder has."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_autoencoders import RECIPES
from torch import Tensor, nn

from workbench.autoencoders import KL, VQ, Autoencoder, AutoencoderRecipe, DescentRecipe, Tiny
from workbench.core import randomness
from workbench.core.config import UserError
from workbench.stages.train.train_autoencoder import normalise

SIZE = 16
IDENTITIES = ["4d2edf61d52b", "844cbfa38936", "67575f7ea07b"]
"""Of the defaults of tiny, kl and vq, since the first release: a new field must not change them."""

every = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.kind)
trained = pytest.mark.parametrize(
    "recipe", [r for r in RECIPES if isinstance(r, DescentRecipe)], ids=lambda recipe: recipe.kind
)
grey_and_colour = pytest.mark.parametrize("channels", [1, 3])


def build(recipe: AutoencoderRecipe, channels: int = 1) -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return recipe.build(channels).eval()


def images(num: int, channels: int = 1) -> Tensor:
    """Smooth images on [0, 1]."""
    coarse = randomness.uniform(torch.arange(num), ("images",), (channels, 4, 4))
    return nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear").contiguous()


class Batches:
    """Of an image split, what `normalise` uses."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: slice) -> Tensor:
        return self.x[index]


@every
@grey_and_colour
def test_shapes(recipe: AutoencoderRecipe, channels: int) -> None:
    autoencoder, x = build(recipe, channels), images(2, channels)
    z = autoencoder.encode(x)
    assert autoencoder.image_channels == channels
    assert z.shape == (2, *autoencoder.latent_shape((channels, SIZE, SIZE)))
    assert z.shape[1] == autoencoder.latent_channels
    assert z.shape[2] * autoencoder.downscale == SIZE
    assert autoencoder.decode(z).shape == x.shape
    assert autoencoder.encode(x[..., : SIZE // 2]).shape[2:] == (z.shape[2], z.shape[3] // 2)


@every
def test_images_that_do_not_fit_are_refused(recipe: AutoencoderRecipe) -> None:
    autoencoder = build(recipe)
    with pytest.raises(UserError, match=f"divisible by {autoencoder.downscale}, but these are 17 x 16"):
        autoencoder.latent_shape((1, 17, 16))
    with pytest.raises(UserError, match=f"divisible by {autoencoder.downscale}"):
        autoencoder.encode(torch.zeros(1, 1, 16, 15))
    with pytest.raises(UserError, match="needs 1-channel images, but these have 3"):
        autoencoder.encode(torch.zeros(1, 3, 16, 16))


class Watched(nn.Module):
    """In place of a network: keeps what it was given, and answers `answer`."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer, self.seen = answer, torch.empty(0)

    def forward(self, given: Tensor, *_: object) -> Tensor:
        self.seen = given
        return self.answer


class WatchedModel(nn.Module):
    """In place of a diffusers autoencoder: keeps what reaches it, decodes to -1 on the left, 1 on the right."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            scaling_factor=1.0, in_channels=1, latent_channels=4, block_out_channels=(8, 8), get=lambda name: 0.0
        )
        self.config.vq_embed_dim = 4
        self.config.patch_size, self.config.num_levels = 2, 1
        self.seen = torch.empty(0)

    def encode(self, x: Tensor) -> SimpleNamespace:
        self.seen = x
        latents = torch.zeros(len(x), 4, x.shape[2] // 2, x.shape[3] // 2)
        return SimpleNamespace(latents=latents, latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        num, _, height, width = latents.shape
        return SimpleNamespace(sample=torch.linspace(-1, 1, 2 * width).expand(num, 1, 2 * height, 2 * width))


@every
def test_the_range_is_mapped_at_the_border(recipe: AutoencoderRecipe) -> None:
    """Images are on [0, 1] outside and on [-1, 1] inside, both ways."""
    model = WatchedModel()
    autoencoder = type(recipe).adapter(model)
    x = torch.linspace(0, 1, SIZE).expand(2, 1, SIZE, SIZE)
    z = autoencoder.encode(x)
    torch.testing.assert_close(model.seen, torch.linspace(-1, 1, SIZE).expand_as(x))
    torch.testing.assert_close(autoencoder.decode(z), x)


@every
@grey_and_colour
def test_normalised_latents_have_zero_mean_and_unit_variance(recipe: AutoencoderRecipe, channels: int) -> None:
    autoencoder, x = build(recipe, channels), images(40, channels)
    before = autoencoder.decode(autoencoder.encode(x)).detach()
    normalise(autoencoder, Batches(x))
    with torch.no_grad():
        z = autoencoder.encode(x)
        assert float(z.mean()) == pytest.approx(0, abs=1e-4)
        assert float(z.std()) == pytest.approx(1, abs=1e-4)
        # what the latents are scaled by, decoding takes back
        torch.testing.assert_close(autoencoder.decode(z), before, rtol=1e-3, atol=1e-3)


@every
def test_normalising_again_changes_nothing(recipe: AutoencoderRecipe) -> None:
    autoencoder, x = build(recipe), Batches(images(20))
    normalise(autoencoder, x)
    first = autoencoder.scale, autoencoder.shift
    normalise(autoencoder, x)
    assert (autoencoder.scale, autoencoder.shift) == pytest.approx(first, rel=1e-5)


@every
@grey_and_colour
def test_the_encoder_copy_encodes_alike_and_stands_alone(recipe: AutoencoderRecipe, channels: int) -> None:
    autoencoder, x = build(recipe, channels), images(3, channels)
    autoencoder.normalise(1.7, -0.3)
    trunk = autoencoder.encoder_copy()
    with torch.no_grad():
        z = autoencoder.encode(x)
        features, z_copy = trunk(x)
        torch.testing.assert_close(z_copy, z, rtol=1e-4, atol=1e-5)
        assert features.shape[2:] == z.shape[2:]
        for parameter in trunk.parameters():
            parameter.add_(1.0)
        torch.testing.assert_close(autoencoder.encode(x), z, rtol=0, atol=0)
        changed = trunk(x)[1]
        for parameter in autoencoder.parameters():
            parameter.zero_()
        torch.testing.assert_close(trunk(x)[1], changed, rtol=0, atol=0)


@every
def test_every_parameter_of_the_encoder_copy_learns(recipe: AutoencoderRecipe) -> None:
    trunk = build(recipe).encoder_copy()
    trunk.train()
    trunk(images(3))[1].square().sum().backward()
    # the rows of KL's last layer that hold the log-variance get a gradient of zero, but get one
    assert all(parameter.grad is not None for parameter in trunk.parameters())


@trained
@grey_and_colour
def test_a_few_steps_lower_the_training_loss(recipe: AutoencoderRecipe, channels: int) -> None:
    autoencoder, x = build(recipe, channels).train(), images(16, channels)
    optimiser = torch.optim.Adam(autoencoder.parameters(), 2e-3)

    def loss() -> tuple[Tensor, dict[str, Tensor]]:
        return autoencoder.training_loss(x, randomness.generator("same"))

    before, parts = loss()
    assert before.isfinite()
    assert all(part.isfinite() for part in parts.values())
    for _ in range(8):
        optimiser.zero_grad()
        loss()[0].backward()
        optimiser.step()
    # bits, unlike squared errors, start far from zero
    assert float(loss()[0].detach()) < (0.99 if recipe.kind == "flow" else 0.9) * float(before.detach())


@every
def test_training_draws_only_from_its_generator(recipe: AutoencoderRecipe) -> None:
    autoencoder, x = build(recipe), images(4)
    state = torch.get_rng_state()
    first, again = (float(autoencoder.training_loss(x, randomness.generator(1))[0].detach()) for _ in range(2))
    assert first == again
    assert torch.equal(torch.get_rng_state(), state)


@every
@grey_and_colour
def test_round_trip_in_half_precision(recipe: AutoencoderRecipe, channels: int, tmp_path: Path) -> None:
    autoencoder, x = build(recipe, channels), images(3, channels)
    autoencoder.normalise(1.25, -0.5)
    autoencoder.save(tmp_path)
    loaded = recipe.load(tmp_path)
    assert not loaded.training
    assert (loaded.scale, loaded.shift) == (1.25, -0.5)
    assert loaded.latent_shape((channels, SIZE, SIZE)) == autoencoder.latent_shape((channels, SIZE, SIZE))
    assert {parameter.dtype for parameter in (*autoencoder.parameters(), *loaded.parameters())} == {torch.float32}
    with torch.no_grad():
        z = autoencoder.encode(x)
        torch.testing.assert_close(loaded.encode(x), z, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(
            type(recipe).adapter(loaded.model).decode(z), autoencoder.decode(z), rtol=2e-2, atol=2e-2
        )


@every
def test_a_folder_of_another_family_is_refused(recipe: AutoencoderRecipe, tmp_path: Path) -> None:
    other = next(r for r in RECIPES if r.kind != recipe.kind)
    build(other).save(tmp_path)
    with pytest.raises(UserError, match=f"holds a {other.model_class().__name__}, not a") as raised:
        recipe.load(tmp_path)
    assert "\n" not in str(raised.value)


@every
@pytest.mark.parametrize("name", ["config.json", "weights"])
def test_a_cut_file_is_refused_in_one_line(recipe: AutoencoderRecipe, name: str, tmp_path: Path) -> None:
    build(recipe).save(tmp_path)
    path = tmp_path / name if name != "weights" else next(tmp_path.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UserError, match=str(tmp_path)) as raised:
        recipe.load(tmp_path)
    assert "\n" not in str(raised.value)


@every
def test_decoding_passes_gradients(recipe: AutoencoderRecipe) -> None:
    autoencoder = build(recipe)
    z = autoencoder.encode(images(2)).detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(autoencoder.decode(z).square().sum(), z)
    assert grad.isfinite().all()
    assert (grad.abs().sum((1, 2, 3)) > 0).all()


@every
def test_the_same_seed_builds_the_same_weights(recipe: AutoencoderRecipe) -> None:
    for one, other in zip(build(recipe).parameters(), build(recipe).parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("num_stages", [1, 2, 4])
def test_tiny_is_smaller_by_two_to_its_stages(num_stages: int) -> None:
    autoencoder = build(Tiny(width=8, num_stages=num_stages, num_blocks=2))
    assert autoencoder.latent_shape((1, 16, 16))[1:] == (16 // 2 ** (num_stages - 1),) * 2
    assert autoencoder.encode(images(1)).shape[2] == 16 // 2 ** (num_stages - 1)


def test_kl_gives_the_mode() -> None:
    autoencoder, x = build(KL(latent_channels=4, block_out_channels=(16, 16))), images(2)
    posterior = autoencoder.model.encode(2 * x - 1).latent_dist
    autoencoder.normalise(1.0, 0.0)
    torch.testing.assert_close(autoencoder.encode(x), posterior.mean)


def quantised(autoencoder: Autoencoder, z: Tensor) -> Tensor:
    raw = z / autoencoder.scale + autoencoder.shift
    nearest: Tensor = autoencoder.model.quantize(raw)[0]
    return nearest


def test_vq_latents_are_taken_before_quantisation_and_decoding_quantises_them() -> None:
    autoencoder, x = build(VQ(latent_channels=4, block_out_channels=(16, 16), num_codes=32)), images(2)
    autoencoder.normalise(2.0, 0.1)
    with torch.no_grad():
        z = autoencoder.encode(x)
        codes = quantised(autoencoder, z)
        assert (codes - z / 2 - 0.1).abs().mean() > 1e-3
        torch.testing.assert_close(autoencoder.decode((codes - 0.1) * 2), autoencoder.decode(z), rtol=1e-4, atol=1e-5)


def test_vq_gradients_pass_straight_through_the_quantiser() -> None:
    """d D(z) / d z is the decoder's derivative at the code, as if quantisation were the identity."""
    autoencoder = build(VQ(latent_channels=4, block_out_channels=(16, 16), num_codes=32))
    autoencoder.normalise(2.0, 0.1)
    z = autoencoder.encode(images(2)).detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(autoencoder.decode(z).square().sum(), z)
    code = quantised(autoencoder, z).detach().requires_grad_(True)
    decoded = (autoencoder.model.decoder(autoencoder.model.post_quant_conv(code)) + 1) / 2
    (at_code,) = torch.autograd.grad(decoded.square().sum(), code)
    assert grad.abs().sum() > 0
    torch.testing.assert_close(grad, at_code / autoencoder.scale, rtol=1e-3, atol=1e-5)


def test_recipes_have_the_identities_by_which_what_they_made_is_found() -> None:
    assert [recipe.identity for recipe in (Tiny(), KL(), VQ())] == IDENTITIES


def test_new_codes_are_as_wide_as_asked() -> None:
    recipe = VQ(latent_channels=4, block_out_channels=(16, 16), codebook_std=1.0)
    assert float(build(recipe).model.quantize.embedding.weight.std()) == pytest.approx(1, rel=0.05)
    assert recipe.identity != recipe.replace(codebook_std=0.0).identity
