"""The autoencoders study: its cells, and that it runs and does nothing twice."""

import re
import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_study import EVALUATION, NETWORKS, source_overrides, write_images
from study_process import PROJECT, run

from studies._autoencoders import AUTOENCODERS
from studies.autoencoders.study import DESK, FAMILIES, study, support, trained
from workbench.autoencoders import PCA, Flow, Pretrained, Tiny
from workbench.diffusion import UNetRecipe
from workbench.stages.evaluate_tuned import EvaluateTuned
from workbench.stages.provenance import PROVENANCE

NUM_IMAGES = 800
"""A tenth each are for validation and test: enough for the calibration of a trial run."""


def cells(preset: str) -> list[EvaluateTuned]:
    found = []
    for cell in study.cells(preset):
        assert isinstance(cell.stage, EvaluateTuned)
        found.append(cell.stage)
    return found


@pytest.mark.parametrize("preset", ["smoke", "desk", "all", "full"])
def test_every_autoencoder_has_the_same_recipe_on_every_degradation(preset: str) -> None:
    found = cells(preset)
    for cell in found:
        assert cell.severity_encoder.degradation == cell.degradation  # type: ignore[union-attr]
        assert cell.start.kind != "snr_match" or cell.start.variance.kind == "encoder"  # type: ignore[union-attr]
    starts = {(cell.autoencoder.kind, cell.degradation.kind, cell.start.kind) for cell in found}
    assert len(starts) == len(found)
    kinds = [{key[place] for key in starts} for place in range(3)]
    assert len(found) == len(kinds[0]) * len(kinds[1]) * len(kinds[2])
    assert kinds[2] == {"snr_match", "oracle_variance", "full"}
    assert len({cell.severity_encoder.model_dump_json(exclude={"degradation"}) for cell in found}) == 1
    assert len({(c.num_values, c.ratio, c.num_val_images, c.max_extensions) for c in found}) == 1


def test_full_has_all_that_ship_and_desk_those_that_are_quick() -> None:
    assert {cell.autoencoder for cell in cells("full")} == set(AUTOENCODERS)
    assert {cell.degradation for cell in cells("full")} == set(FAMILIES)
    assert [cell.autoencoder.kind for cell in cells("desk")][::6] == ["tiny", "kl", "vq", "pca"]
    assert {cell.num_images for cell in cells("desk")} == {64}


def test_all_goes_on_from_desk() -> None:
    desk, everything = cells("desk"), cells("all")
    assert {cell.identity for cell in desk} < {cell.identity for cell in everything}
    assert {cell.autoencoder for cell in everything} == set(AUTOENCODERS)


def test_the_readmes_module_sets_a_pretrained_autoencoder_beside_the_others(tmp_path: Path) -> None:
    modules = re.findall(r"```python\n(.*?)```", (PROJECT / "workbench" / "README.md").read_text(), re.DOTALL)
    (text,) = [module for module in modules if "Pretrained(" in module]
    Tiny(latent_channels=4, width=8, num_stages=2, num_blocks=1).build(3).save(tmp_path / "vae")
    (tmp_path / "mine.py").write_text(text.replace("/path/to/vae", str(tmp_path / "vae")))
    found = runpy.run_path(str(tmp_path / "mine.py"))["study"].cells("desk")
    names, mine_is = (
        list(dict.fromkeys(cell.labels["autoencoder"] for cell in found)),
        f"pretrained {tmp_path.name} vae",
    )
    assert names == [*(recipe.kind for recipe in DESK), mine_is]
    assert {cell.identity for cell in cells("desk")} < {cell.stage.identity for cell in found}
    mine = [cell.stage for cell in found if cell.labels["autoencoder"] == mine_is]
    assert len(mine) == 6
    for stage in mine:
        stage.check()
        assert isinstance(stage.autoencoder, Pretrained)
        assert stage.prior == UNetRecipe()
    supported = [name for name in support(found) if name.startswith("pretrained")]
    assert supported == [f"{mine_is}/{what}" for what in ("itself", "gaussian_blur", "random_inpainting")]


def test_a_training_is_told_in_a_few_words() -> None:
    recipes = [Flow(num_train_images=200_000), PCA(), Tiny(source="/a/folder"), Pretrained(source="/a/folder")]
    told = [trained(recipe.model_dump(mode="json")) for recipe in recipes]
    assert told == [
        "200,000 images with noise 44 grey levels wide in float32",
        "at most 60,000 images",
        "elsewhere",
        "elsewhere",
    ]


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    images = write_images(tmp_path_factory.mktemp("images") / "shapes.npy", NUM_IMAGES)
    few = {name: value for name, value in EVALUATION.items() if name not in ("sampler.num_steps", "num_images")}
    return {**source_overrides(images), **NETWORKS, **few}


def test_the_smoke_study_runs_and_does_nothing_twice(overrides: dict[str, Any], tmp_path: Path) -> None:
    num_cells = len(study.cells("smoke"))
    assert f"{num_cells} cells, 0 cached" in run(tmp_path, overrides, "autoencoders")
    (path,) = tmp_path.glob("studies/autoencoders/*/results.parquet")
    frame = pd.read_parquet(path)
    assert frame["cell"].nunique() == num_cells == 12
    assert (frame["num_trials"] == 3).all()
    (page,) = tmp_path.glob("studies/autoencoders/*/report/index.html")
    assert "Which autoencoder makes severity readable?" in page.read_text()
    assert "What do they cost?" in page.read_text()
    assert "1,024 images in float32" in page.read_text()
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"stages/*/*/{PROVENANCE}")}
    assert f"{num_cells} cells, {num_cells} cached" in run(tmp_path, overrides, "autoencoders")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"stages/*/*/{PROVENANCE}")} == made
