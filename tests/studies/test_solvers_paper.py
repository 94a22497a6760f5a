"""The solvers study at the scale of the paper: 256 px images, and a small model where a user has the pretrained one."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from studies._solvers_paper import FACES, MODEL
from studies.solvers import study
from workbench.autoencoders import VQ
from workbench.config import UserError
from workbench.diffusion import PriorRecipe
from workbench.results import Cell
from workbench.stages.base import Runtime
from workbench.stages.evaluate import ROWS
from workbench.stages.evaluate_tuned import EvaluateTuned
from workbench.zoo import weights_digest

SIZE, LATENT = 256, (3, 64, 64)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with 24 images and a model of random weights."""
    faces, model = tmp_path / FACES, tmp_path / MODEL
    faces.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(SIZE // 8, 0).repeat(SIZE // 8, 1)
        Image.fromarray(pixels).save(faces / f"{i}.png")
    torch.manual_seed(0)
    VQ(block_out_channels=(16, 16, 16), latent_channels=3, num_codes=16).build(3).save(model / "vqvae")
    config = model / "vqvae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 1.0}))
    PriorRecipe(block_out_channels=(16, 16)).build(LATENT).save(model)
    monkeypatch.chdir(tmp_path)
    weights_digest.cache_clear()
    return tmp_path


def stages(cells: list[Cell]) -> list[EvaluateTuned]:
    return [cell.stage for cell in cells if isinstance(cell.stage, EvaluateTuned)]


def test_every_pair_has_its_published_settings(here: Path) -> None:
    found = stages(study.cells("paper"))
    for cell in found:
        cell.check_operators()
        assert cell.autoencoder_stage().latent_shape() == LATENT
    assert {(c.data.size, c.data.channels, c.num_images, c.tuned) for c in found} == {(SIZE, 3, 200, None)}
    diffusing = [c for c in found if c.solver.diffuses]
    assert len({(c.solver.kind, c.degradation.kind) for c in diffusing}) == 11
    assert {c.sampler.num_steps for c in diffusing if c.solver.kind != "resample"} == {1000}
    assert {c.sampler.num_steps for c in diffusing if c.solver.kind == "resample"} == {500}
    assert {c.sampler.eta for c in diffusing} == {1.0}
    # dc_step 7 on [-1, 1] and c = 1.2 in the authors' configuration of LDPS on random inpainting
    official = [c for c in found if (c.solver.kind, c.degradation.kind, c.start.kind) == INPAINTING]
    assert [(c.solver.guidance_scale, c.start.c) for c in official] == [(14.0, 1.2)]  # type: ignore[union-attr]
    labels = [tuple(cell.labels.values()) for cell in study.cells("paper")]
    assert len(set(labels)) == len(labels)


INPAINTING = ("ldps", "random_inpainting", "official")


def test_a_cell_runs_at_256_px(here: Path) -> None:
    few = {"num_images": 1, "severity_encoder.num_train_images": 2, "severity_encoder.batch_size": 2}
    small = {"lpips.backbone": None, "sampler.num_steps": 4, "solver.max_iterations": 1, "split": "val"}
    cells = stages(study.cells("paper", {**few, **small}))
    (cell,) = [c for c in cells if (c.solver.kind, c.degradation.kind, c.start.kind) == INPAINTING]
    rows = pd.read_parquet(cell.ensure(Runtime(here / "runs")) / ROWS)
    assert np.isfinite(rows["psnr"]).all()
    assert rows["nfe"].iloc[0] <= 4


def test_without_a_model_the_study_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights_digest.cache_clear()  # it knows the other tests' folders by the same relative names
    with pytest.raises(UserError, match=f"{MODEL}/vqvae holds no weights"):
        study.cells("paper")
