"""The solvers study at the scale of the paper: 256 px images, and a small model where a user has the pretrained one."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from studies.solvers.paper import FACES, MODEL
from studies.solvers.study import study
from workbench.autoencoders import VQ
from workbench.core.config import UserError
from workbench.degradations import RandomInpainting
from workbench.diffusion import UNetRecipe
from workbench.diffusion.noise_levels import spaced_timesteps
from workbench.experiments.results import Cell
from workbench.severity.loss import SeverityLoss
from workbench.severity.start import Official
from workbench.solvers import ReSample
from workbench.solvers.resample import LOG_SNR_BELOW
from workbench.stages.measure.evaluate_tuned import EvaluateTuned
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime
from workbench.weights.zoo import weights_digest

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
    UNetRecipe(block_out_channels=(16, 16)).build(LATENT).save(model)
    monkeypatch.chdir(tmp_path)
    weights_digest.cache_clear()
    return tmp_path


def stages(cells: list[Cell]) -> list[EvaluateTuned]:
    return [cell.stage for cell in cells if isinstance(cell.stage, EvaluateTuned)]


AUTHORS: dict[str, dict[str, tuple[dict[str, float], float]]] = {
    "gaussian_blur": {
        "ldps": ({"dc_step": 1.0}, 1.2),
        "gml_dps": ({"dc_step": 3.0, "ae_weight": 0.05}, 1.2),
        "psld": ({"dc_step": 2.0, "ae_weight": 0.2}, 1.0),
        "resample": ({"resample_step": 400}, 1.2),
    },
    "random_inpainting": {
        "ldps": ({"dc_step": 7.0}, 1.2),
        "gml_dps": ({"dc_step": 10.0, "ae_weight": 0.05}, 1.0),
        "psld": ({"dc_step": 10.0, "ae_weight": 0.5}, 1.0),
        "resample": ({"resample_step": 200}, 1.2),
    },
    "motion_blur_crf": {  # their nonlinear blur
        "ldps": ({"dc_step": 1.0}, 1.0),
        "gml_dps": ({"dc_step": 3.0, "ae_weight": 0.05}, 1.2),
        "resample": ({"resample_step": 200}, 1.2),
    },
}
"""Settings on [-1, 1] and c, in the words of the authors' configurations."""
OURS = {"dc_step": ("guidance_scale", 2.0), "ae_weight": ("weight", 1.0), "resample_step": ("gamma", 1.0)}
"""What these are called here, and by what they are multiplied for [0, 1]."""


def test_every_pair_has_its_published_settings(here: Path) -> None:
    found = stages(study.cells("paper"))
    for cell in found:
        cell.check_operators()
        assert cell.autoencoder_stage().latent_shape() == LATENT
    assert {(c.data.size, c.data.channels, c.num_images, c.tuned) for c in found} == {(SIZE, 3, 200, None)}
    diffusing = [c for c in found if c.solver.diffuses]
    assert {(c.solver.kind, c.degradation.kind) for c in diffusing} == {
        (solver, degradation) for degradation, solvers in AUTHORS.items() for solver in solvers
    }
    assert {c.degradation.noise_std for c in found} == {0.05}
    for cell in diffusing:
        theirs, c = AUTHORS[cell.degradation.kind][cell.solver.kind]
        for name, value in theirs.items():
            field, factor = OURS[name]
            assert getattr(cell.solver, field) == factor * value
        if isinstance(cell.start, Official):
            assert cell.start.c == c
    assert sum(isinstance(c.start, Official) for c in diffusing) == 11
    labels = [tuple(cell.labels.values()) for cell in study.cells("paper")]
    assert len(set(labels)) == len(labels)
    assert "clean_end" not in " ".join(study.cells("paper")[0].labels)


def test_samplers_are_the_published_ones(here: Path) -> None:
    diffusing = [c for c in stages(study.cells("paper")) if c.solver.diffuses]
    of = {"other": set(), "resample": set()}
    for c in diffusing:
        key = "resample" if c.solver.kind == "resample" else "other"
        of[key].add((c.sampler.num_steps, c.sampler.eta, c.sampler.clean_end))
    # DDPM; DDIM with eta = 1 on a grid of 500 that ends at the level of timestep 0
    assert of == {"other": {(1000, 1.0, True)}, "resample": {(500, 1.0, False)}}


def test_resample_is_run_as_flash_diffusions_authors_run_it(here: Path) -> None:
    solvers = {c.solver for c in stages(study.cells("paper")) if isinstance(c.solver, ReSample)}
    assert {s.gamma for s in solvers} == {400.0, 200.0}
    for solver in solvers:
        assert solver.replace(gamma=400.0) == ReSample(
            every=10,
            gamma=400.0,
            image_log_snr=LOG_SNR_BELOW[750 / 1000],
            latent_log_snr=LOG_SNR_BELOW[300 / 1000],
            image_learning_rate=0.1 / 2,  # Adam's steps are lengths, and [0, 1] is half as long
            latent_learning_rate=0.1,
            max_iterations=100,
            correct_last=True,
            resampling="flash",
            proximity=1.0,
            tau=1.0,
        )
    # on their grid 999, 997 ... 1 consistency is sought at t = 1, 21 ... 741
    grid = spaced_timesteps(1000, 500).tolist()
    due = [t for position, t in enumerate(grid) if (500 - position - 1) % 10 == 0 and t / 1000 < 0.75]
    assert due[::-1] == list(range(1, 750, 20))
    assert [t for t in due if t / 1000 < 0.3] == [t for t in due if t <= 300]


def test_only_the_paper_measures_dropped_pixels_as_zeros(here: Path) -> None:
    def dropped(preset: str) -> set[str]:
        cells = [c for c in study.cells(preset) if isinstance(c.stage, EvaluateTuned)]
        operators = [o for c in stages(cells) for o in (c.degradation, c.severity_encoder.degradation)]
        return {o.dropped for o in operators if isinstance(o, RandomInpainting)}

    assert dropped("paper") == {"as_zeros"}
    assert dropped("desk") == dropped("full") == {"excluded"}


def test_the_severity_encoders_loss_is_the_published_one(here: Path) -> None:
    """Batches of 4 on each of 8 devices; weights of 1, the image term's of a sum over 4 images on [-1, 1]."""
    recipes = {c.severity_encoder for c in stages(study.cells("paper"))}
    assert {r.loss for r in recipes} == {
        SeverityLoss(variance_term="squared_difference", weight_variance=1.0, weight_image=4 * 4 * 1.0)
    }
    assert {(r.batch_size, r.learning_rate) for r in recipes} == {(32, 1e-4)}


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
    with pytest.raises(UserError, match=f"{MODEL}/vqvae has no weights"):
        study.cells("paper")
