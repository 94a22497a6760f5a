import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_study import SIZE, source, source_overrides

from studies._autoencoders import AUTOENCODERS, prior_of
from studies.zoo import card
from studies.zoo.study import study
from workbench.autoencoders import KL, ArchitectureRecipe, Tiny
from workbench.core.config import UserError
from workbench.core.digests import DIGESTS, damaged
from workbench.diffusion import load_prior
from workbench.experiments.run import run_study
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_prior import TrainPrior
from workbench.weights import zoo

LATENTS = {
    "tiny": "8 x 4 x 4",
    "kl": "8 x 4 x 4",
    "vq": "4 x 8 x 8",
    "vqgan": "4 x 8 x 8",
    "pca": "8 x 4 x 4",
    "flow": "16 x 4 x 4",
}


@pytest.fixture(scope="module")
def overrides(images: Path) -> dict[str, Any]:
    return {
        **source_overrides(images),
        "autoencoder.num_train_images": 96,
        "prior.block_out_channels": (16, 32),
        "prior.num_train_images": 96,
        "prior.batch_size": 32,
    }


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def exported(overrides: dict[str, Any], runtime: Runtime) -> Path:
    """The study's folder, a zoo itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "NUM_STEPS", 5)
        results, folder = run_study("zoo", "smoke", overrides, runtime)
    assert results is None
    return folder


def folder_of(recipe: ArchitectureRecipe, exported: Path) -> Path:
    return exported / f"npy_{SIZE}_{recipe.kind}"


def stage_of(recipe: ArchitectureRecipe, overrides: dict[str, Any], **fields: Any) -> TrainPrior:
    """The prior stage of a user who leaves the source of both at "auto"."""
    assert isinstance(study.cell, TrainPrior)
    own = {"autoencoder": recipe, "prior.source": "auto"}
    return study.cell.replace(own).replace(overrides).replace({f"prior.{k}": v for k, v in fields.items()})


def test_every_family_gets_a_folder(exported: Path) -> None:
    expected = {folder_of(recipe, exported).name for recipe in AUTOENCODERS}
    assert {path.name for path in exported.iterdir() if path.is_dir()} == expected


@pytest.mark.parametrize("recipe", AUTOENCODERS, ids=lambda recipe: recipe.kind)
def test_the_folder_holds_all_that_ships(recipe: ArchitectureRecipe, exported: Path) -> None:
    folder = folder_of(recipe, exported)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    encoder = {f"severity_encoder/{name}" for name in ("README.md", "recipe.json", "weights.safetensors")}
    encoder |= {"severity_statistics/fusion.safetensors"}
    assert files == (encoder if recipe.kind == "tiny" else set()) | {
        "README.md",
        "recipe.json",
        "reconstructions.png",
        "samples.png",
        "autoencoder/config.json",
        "autoencoder/diffusion_pytorch_model.fp16.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "scheduler/scheduler_config.json",
        DIGESTS,
    }
    assert damaged(folder) == []
    text = (folder / "README.md").read_text()
    assert f"npy, {SIZE} px, {recipe.kind} autoencoder" in text
    assert f"`python -m workbench study zoo --preset {recipe.kind}`" in text
    assert LATENTS[recipe.kind] in text
    assert ("fitted without descent" if recipe.kind == "pca" else "96 training images seen") in text
    assert "nan" not in text
    for name, pictures in (("reconstructions", 32), ("samples", 64)):
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.size == (8 * (SIZE + 2) + 2, pictures // 8 * (SIZE + 2) + 2)


@pytest.mark.parametrize("recipe", AUTOENCODERS, ids=lambda recipe: recipe.kind)
def test_the_weights_load_and_are_those_that_were_trained(
    recipe: ArchitectureRecipe, exported: Path, images: Path, overrides: dict[str, Any], runtime: Runtime
) -> None:
    folder = folder_of(recipe, exported)
    trained = stage_of(recipe, {**overrides, "autoencoder.source": "train", "prior.source": "train"})
    assert trained.is_cached(runtime)
    x = source(images).split("test").first(4).batch(slice(None))
    with torch.no_grad():
        shipped, own = recipe.load(folder / "autoencoder"), trained.autoencoder_stage().load(runtime)
        for one, other in ((shipped, own), (load_prior(folder), trained.load(runtime))):
            for name, weight in other.state_dict().items():
                assert torch.equal(one.state_dict()[name], weight)
        # the trained one may lie in channels-last order: equal up to rounding
        z = own.encode(x)
        torch.testing.assert_close(shipped.encode(x), z, rtol=1e-4, atol=1e-5)
        timestep = torch.tensor([0, 10, 500, 999])
        one, other = load_prior(folder).predict(z, timestep), trained.load(runtime).predict(z, timestep)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recipe", AUTOENCODERS, ids=lambda recipe: recipe.kind)
def test_a_zoo_with_the_folder_ships_its_weights(
    recipe: ArchitectureRecipe,
    exported: Path,
    overrides: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = stage_of(recipe, overrides)
    assert stage.shipped() is None, "before it is in the zoo"
    trained = stage.identity
    monkeypatch.setenv("WORKBENCH_ZOO", str(exported))
    assert zoo.zoo_root() == exported
    assert stage.shipped() == stage.autoencoder_stage().shipped() == folder_of(recipe, exported)
    assert stage.identity != trained
    fresh = Runtime(tmp_path)
    assert stage.missing(fresh) == []
    assert f"{stage.load(fresh).latent_channels} x " == LATENTS[recipe.kind][:-5]
    assert not (tmp_path / "stages").exists(), "nothing is trained"


def test_the_severity_encoder_ships_with_its_autoencoder(
    exported: Path, overrides: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    pair = stage_of(Tiny(), overrides)
    own = card.universal(stage_of(Tiny(), {**overrides, "autoencoder.source": "train", "prior.source": "train"}))
    mine = card.universal(pair).replace({"severity_encoder.source": "auto"})
    assert mine.shipped() is None, "before it is in the zoo"
    monkeypatch.setenv("WORKBENCH_ZOO", str(exported))
    assert mine.shipped() == folder_of(Tiny(), exported) / "severity_encoder"
    for path, value in (("severity_encoder.seed", 1), ("severity_encoder.degradation.kind", "jpeg")):
        assert mine.replace({path: value}).shipped() is None, "another recipe"
    assert mine.replace({"severity_encoder.source": "train"}).shipped() is None
    shipped, trained = mine.load(Runtime(tmp_path)), own.load(runtime)
    for name, weight in trained.state_dict().items():
        torch.testing.assert_close(shipped.state_dict()[name], weight, rtol=1e-3, atol=1e-6)  # half precision
    text = (folder_of(Tiny(), exported) / "severity_encoder" / "README.md").read_text()
    assert "96 training images seen" in text
    assert text.count("\n| ") == 1 + 6
    other = folder_of(KL(), exported) / "autoencoder"
    with pytest.raises(UserError, match="has no severity encoder for this autoencoder"):
        mine.replace({"severity_encoder.source": str(other)}).load(Runtime(tmp_path))


def test_other_recipes_are_not_taken_from_the_zoo(
    exported: Path, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_ZOO", str(exported))
    assert stage_of(Tiny(), overrides, seed=1).shipped() is None
    assert stage_of(Tiny(), overrides, seed=1).autoencoder_stage().shipped() is not None
    assert stage_of(Tiny(), {**overrides, "autoencoder.seed": 1}).autoencoder_stage().shipped() is None
    assert stage_of(Tiny(), {**overrides, "prior.source": "train"}).shipped() is None
    assert stage_of(Tiny(), {**overrides, "autoencoder.source": "train"}).shipped() is None


def test_the_recipe_is_the_configuration_that_made_it(exported: Path, overrides: dict[str, Any]) -> None:
    made_by = json.loads((folder_of(Tiny(), exported) / "recipe.json").read_text())
    assert made_by["data"]["size"] == SIZE
    stage = stage_of(Tiny(), overrides)
    assert made_by["autoencoder"] == stage.autoencoder.canonical()
    assert made_by["prior"] == json.loads(json.dumps(stage.prior.canonical()))
    assert "source" not in made_by["autoencoder"]


def test_exporting_again_gives_the_same_folder(exported: Path, overrides: dict[str, Any], runtime: Runtime) -> None:
    def contents() -> dict[str, bytes]:
        return {str(p.relative_to(exported)): p.read_bytes() for p in exported.rglob("*") if p.is_file()}

    before = contents()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "NUM_STEPS", 5)
        run_study("zoo", "smoke", overrides, runtime)
    assert contents() == before


def test_the_smoke_preset_trains_every_family_little(images: Path) -> None:
    cells = study.cells("smoke", source_overrides(images))
    assert [cell.labels["autoencoder"] for cell in cells] == [recipe.kind for recipe in AUTOENCODERS]
    for cell in cells:
        assert isinstance(cell.stage, TrainPrior)
        assert cell.stage.autoencoder.num_train_images == cell.stage.prior.num_train_images == 512


@pytest.mark.parametrize("recipe", AUTOENCODERS, ids=lambda recipe: recipe.kind)
def test_a_preset_of_its_name_makes_the_pair_that_studies_look_for(recipe: ArchitectureRecipe) -> None:
    (cell,) = study.cells(recipe.kind)
    assert isinstance(cell.stage, TrainPrior)
    assert cell.stage.autoencoder == recipe.replace(source="train")
    assert cell.stage.prior == prior_of(recipe).replace(source="train")
    assert cell.stage.identity in {other.stage.identity for other in study.cells("full")}
