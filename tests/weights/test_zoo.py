"""Shipped weights are found by the recipe that made them, and those that ship are sound and small."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_study import source, write_images

from workbench.autoencoders import Autoencoder, Tiny
from workbench.core.config import UserError
from workbench.core.tensors import Images
from workbench.diffusion import Prior, UNetRecipe
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_autoencoder import TrainAutoencoder
from workbench.stages.train.train_prior import TrainPrior
from workbench.weights import zoo

SHIPPED = Path(__file__).parents[2] / "data" / "zoo"
DEFAULT = SHIPPED / "fashion_mnist_32_tiny"
NUM_IMAGES = 500


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty zoo."""
    monkeypatch.setenv("WORKBENCH_ZOO", str(tmp_path))
    zoo.weights_digest.cache_clear()
    yield tmp_path
    zoo.weights_digest.cache_clear()


def ship(folder: Path, recipe: dict[str, object], weights: bytes = b"weights") -> Path:
    """A zoo folder whose weights are only some bytes: to find it, nobody reads them."""
    for part in ("autoencoder", "unet"):
        (folder / part).mkdir(parents=True)
        (folder / part / "weights.safetensors").write_bytes(weights)
        (folder / part / "config.json").write_text("{}")
    (folder / zoo.RECIPE).write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> TrainPrior:
    """A prior at its defaults on a few images."""
    data = source(write_images(tmp_path_factory.mktemp("images") / "images.npy"))
    return TrainPrior(data=data, autoencoder=Tiny(), prior=UNetRecipe())


def test_the_zoo_is_beside_the_package_unless_the_environment_says_otherwise(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert zoo.zoo_root() == root
    monkeypatch.delenv("WORKBENCH_ZOO")
    assert zoo.zoo_root() == SHIPPED


def test_find_goes_by_all_parts_of_the_recipe(root: Path) -> None:
    one = ship(root / "one", {"autoencoder": {"width": 8}, "prior": {"seed": 0}})
    two = ship(root / "two", {"autoencoder": {"width": 16}, "prior": {"seed": 1}})
    assert zoo.find({"autoencoder": {"width": 8}}) == one
    assert zoo.find({"autoencoder": {"width": 16}}) == two
    assert zoo.find({"autoencoder": {"width": 16}, "prior": {"seed": 1}}) == two
    assert zoo.find({"autoencoder": {"width": 8}, "prior": {"seed": 1}}) is None
    assert zoo.find({"prior": {"width": 8}}) is None
    assert zoo.find({"autoencoder": {"width": 8, "seed": 0}}) is None
    assert zoo.find({"severity": {"width": 8}}) is None


def test_an_empty_or_absent_zoo_has_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo.find({"autoencoder": {}}) is None
    monkeypatch.setenv("WORKBENCH_ZOO", str(root / "nowhere"))
    assert zoo.find({"autoencoder": {}}) is None


@pytest.mark.parametrize("content", [b'{"autoencoder": {', b"", b"[1, 2]", b"\xff\xfe\x00", b"[" * 10**5, b"9" * 5000])
def test_a_damaged_recipe_is_named_in_one_line(root: Path, content: bytes) -> None:
    path = ship(root / "one", {}) / zoo.RECIPE
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"recipe\.json is damaged.*restore it from version control") as raised:
        zoo.find({"autoencoder": {}})
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_stages_find_their_recipe_and_only_theirs(root: Path, stage: TrainPrior) -> None:
    def shipped(overrides: dict[str, object]) -> tuple[Path | None, Path | None]:
        other = stage.replace(overrides)
        return other.autoencoder_stage().shipped(), other.shipped()

    assert shipped({}) == (None, None)
    folder = ship(root / "pair", stage.recipe())
    assert shipped({}) == (folder, folder)
    assert shipped({"autoencoder.width": 16}) == (None, None)
    assert shipped({"data.size": 8}) == (None, None)
    assert shipped({"autoencoder.source": "train"}) == (None, None)
    assert shipped({"prior.seed": 1}) == (folder, None)
    assert shipped({"prior.source": "train"}) == (folder, None)


def test_a_prior_of_another_autoencoders_folder_is_not_taken(root: Path, stage: TrainPrior) -> None:
    own = ship(root / "own", stage.replace({"prior.seed": 5}).recipe())
    ship(root / "other", stage.replace({"autoencoder.width": 16}).recipe())
    assert stage.autoencoder_stage().shipped() == own
    assert stage.shipped() is None


def test_the_identity_of_shipped_weights_is_their_contents(root: Path, stage: TrainPrior) -> None:
    def identities() -> tuple[str, str]:
        zoo.weights_digest.cache_clear()
        return stage.autoencoder_stage().identity, stage.identity

    trained = identities()
    folder = ship(root / "pair", stage.recipe())
    shipped = identities()
    folder.rename(root / "renamed")
    assert identities() == shipped
    (root / "renamed" / "unet" / "weights.safetensors").write_bytes(b"other weights")
    changed = identities()
    assert len({trained[1], shipped[1], changed[1]}) == 3
    assert trained[0] != shipped[0]


def test_weights_digest_follows_contents_and_names(tmp_path: Path) -> None:
    zoo.weights_digest.cache_clear()
    one, same = ship(tmp_path / "one", {"a": 1}), ship(tmp_path / "same", {"a": 1})
    other, moved = ship(tmp_path / "other", {"a": 1}, b"weighty"), ship(tmp_path / "moved", {"a": 1})
    (moved / "unet" / "weights.safetensors").rename(moved / "unet" / "model.safetensors")
    (same / "README.md").write_text("Words do not count.")
    digests = [zoo.weights_digest(folder) for folder in (one, same, other, moved)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert all(len(text) == 12 for text in digests)


def test_weights_digest_refuses_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"has no weights \(\*\.safetensors\)") as raised:
            zoo.weights_digest(folder)
        assert str(folder) in str(raised.value)


def test_a_given_folder_that_is_not_there_is_a_user_error(root: Path, stage: TrainPrior) -> None:
    nowhere = str(root / "nowhere")
    for given in (
        stage.replace({"autoencoder.source": nowhere}).autoencoder_stage(),
        stage.replace({"prior.source": nowhere}),
    ):
        with pytest.raises(UserError, match="nowhere"):
            _ = given.identity


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(root=tmp_path_factory.mktemp("shipped"))


@pytest.fixture(scope="module")
def cell() -> Evaluate:
    """The default cell; its data's content is part of what the shipped weights go by."""
    return Evaluate()


@pytest.fixture(scope="module")
def autoencoder(cell: Evaluate, runtime: Runtime) -> Autoencoder:
    return cell.autoencoder_stage().load(runtime)


@pytest.fixture(scope="module")
def prior(cell: Evaluate, runtime: Runtime) -> Prior:
    return cell.prior_stage().load(runtime)


@pytest.fixture(scope="module")
def x(cell: Evaluate) -> Images:
    """The first test images."""
    return cell.data.split("test").batch(slice(0, NUM_IMAGES))


def test_the_default_cell_needs_no_training_of_autoencoder_or_prior(cell: Evaluate, runtime: Runtime) -> None:
    assert cell.autoencoder_stage().shipped() == DEFAULT
    assert cell.prior_stage().shipped() == DEFAULT
    assert cell.prior_stage().missing(runtime) == []
    stages = {type(stage) for stage in cell.missing(runtime)}
    assert not stages & {TrainAutoencoder, TrainPrior}


def test_what_ships_is_small_and_documented() -> None:
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    sizes = Counter[str]()
    for path in files:
        sizes[path.relative_to(SHIPPED).parts[0]] += path.stat().st_size
    of_domains = [sizes.pop(name) for name in list(sizes) if name.startswith(("chest_mr", "spoken_digits"))]
    assert sizes.total() <= 60e6, "of photographs and clothes"
    assert max(of_domains) <= 6e6, "of another domain"
    for recipe in SHIPPED.glob(f"*/{zoo.RECIPE}"):
        assert (recipe.parent / "README.md").is_file()
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]


def test_a_model_does_not_say_from_which_folder_it_was_loaded(autoencoder: Autoencoder, tmp_path: Path) -> None:
    assert "_name_or_path" in autoencoder.model.config, "diffusers notes it"
    autoencoder.save(tmp_path)
    for path in (tmp_path / "config.json", *SHIPPED.rglob("config.json")):
        assert "_name_or_path" not in json.loads(path.read_text()), path


def test_the_shipped_autoencoder_gives_images_back(autoencoder: Autoencoder, x: Images) -> None:
    with torch.no_grad():
        x_hat = autoencoder.decode(autoencoder.encode(x)).clamp(0, 1)
    psnr = -10 * (x_hat - x).square().mean((1, 2, 3)).log10()
    assert float(psnr.mean()) >= 30


def test_the_shipped_latents_have_unit_variance(autoencoder: Autoencoder, x: Images) -> None:
    with torch.no_grad():
        z = autoencoder.encode(x)
    assert float(z.var()) == pytest.approx(1, rel=0.05)
    assert float(z.mean()) == pytest.approx(0, abs=0.05)


def test_the_shipped_prior_knows_these_latents(autoencoder: Autoencoder, prior: Prior, x: Images) -> None:
    """It removes half of the noise at least, which needs the right latents, scale and noise levels."""
    from workbench.core.randomness import generator
    from workbench.diffusion import diffuse

    assert prior.latent_channels == autoencoder.latent_channels
    timestep = torch.full((64,), prior.levels.num_timesteps // 3)
    with torch.no_grad():
        z0 = autoencoder.encode(x[:64])
        a = prior.levels.alpha_bar_at(timestep)
        eps = torch.randn(z0.shape, generator=generator("zoo"))
        z0_hat, _ = prior.predict(diffuse(z0, eps, a), timestep)
    added = float(((1 - a) / a)[0])
    assert float((z0_hat - z0).square().mean()) < 0.5 * added
