"""Which autoencoders make severity readable, and does a higher ceiling help restoration?

The method leaves open what the autoencoder has to do with it (the paper's third open question). Here one recipe of
severity encoders is trained on each autoencoder: a small one, KL, VQ, the best linear one (principal components), and
at all and full a VQ-GAN and a normalising flow, which loses nothing. Each is measured by itself, then what its
severity encoders read, then images are restored with it: from where the encoder says, from where the true error says,
and from pure noise. Guidance is chosen on validation images for each, since latents differ.

Two things differ with the autoencoder: its prior, which what is decoded without diffusion does not have in it; and
PCA and the flow have encoders that cannot learn, so their severity encoders get a small network beside.

On photographs (photos), the pair that ships is compared with principal components, with a short prior for each of them.

Cost: 26 minutes on two cores (desk) with the autoencoders and priors that it compares in data/zoo; 20 more with the
VQ-GAN and the flow (all), which are not there and are trained first, in an hour and a half. Two minutes (smoke), 40
(photos), a night (full). Run: python -m workbench study autoencoders
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import read_parquet

from studies._autoencoders import AUTOENCODERS, prior_of
from studies._cells import SMOKE, matched
from studies._photos import AUTOENCODER, PHOTOGRAPHS, PRIOR
from studies._trivial import TRIVIAL
from studies.autoencoders import sections
from studies.autoencoders.results import COST, FULL, ITSELF, MATCHED, ORACLE, read
from workbench.autoencoders import PCA, AutoencoderRecipe, Pretrained, Tiny
from workbench.degradations import Degradation, GaussianBlur, MotionBlurCRF, RandomInpainting
from workbench.diffusion import UNetRecipe
from workbench.experiments.results import Cell
from workbench.experiments.study import Axes, Preset, Study
from workbench.metrics import calibration
from workbench.severity.calibration.recalibration import Factor
from workbench.severity.recipe import SeverityRecipe
from workbench.severity.start import SNRMatch
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate_tuned import EvaluateTuned
from workbench.stages.measure.measure_autoencoder import LATENTS, LATENTS_FILE, SIZES, MeasureAutoencoder
from workbench.stages.measure.measure_calibration import MeasureCalibration
from workbench.stages.measure.measure_cost import MeasureCost
from workbench.stages.rows import ROWS

FAMILIES = (GaussianBlur(), RandomInpainting(), MotionBlurCRF())
DESK = tuple(recipe for recipe in AUTOENCODERS if recipe.kind in ("tiny", "kl", "vq", "pca"))
NOISE_STEPS = 100
"""Steps from pure noise: a control that is cheap, not the best that pure noise can do."""
NUM_MEASURED, NUM_FIT = 1024, 1000
"""Images that a severity encoder is measured on, and validation images for its recalibration, at desk and full."""
SEPARATOR = "/"


def preset(
    recipes: Sequence[AutoencoderRecipe],
    degradations: Sequence[Degradation],
    overrides: Mapping[str, Any],
    prior: UNetRecipe | None = None,
) -> Preset:
    """Every autoencoder on every degradation: where the encoder or the true error says, or from pure noise.

    Args:
        prior: the recipe of all priors, trained for each autoencoder; None: each has its own.
    """
    grids: list[Axes] = []
    for recipe, degradation in itertools.product(recipes, degradations):
        pair = matched(degradation, autoencoder=(recipe,), prior=(prior or prior_of(recipe),))
        grids.append({**pair, "start.kind": (MATCHED, ORACLE)})
        grids.append({**pair, "start.kind": (FULL,), "sampler.num_steps": (NOISE_STEPS,)})
    return Preset(overrides=overrides, axes=grids[0], grids=grids[1:])


def support(cells: Sequence[Cell]) -> dict[str, Stage]:
    """Each autoencoder by itself, what its parts cost, and what each of its severity encoders reads."""
    stages: dict[str, Stage] = {}
    for cell in cells:
        stage, name = cell.stage, cell.labels["autoencoder"]
        assert isinstance(stage, EvaluateTuned)
        few = stage.num_images < 64  # a trial run
        num_images = min(64 if few else NUM_MEASURED, len(stage.data.split("test")))
        num_fit = min(64 if few else NUM_FIT, len(stage.data.split("val")))
        own = {"data": stage.data, "autoencoder": stage.autoencoder, "num_images": num_images}
        stages[f"{name}{SEPARATOR}{ITSELF}"] = MeasureAutoencoder(**own)
        if not isinstance(stage.autoencoder, Pretrained) and isinstance(stage.data.size, int):
            stages[f"{name}{SEPARATOR}{COST}"] = MeasureCost(
                autoencoder=stage.autoencoder,
                prior=stage.prior,
                image_size=stage.data.size,
                channels=stage.data.channels,
                batch_size=min(64, stage.num_images),
                num_repeats=3,
            )
        if isinstance(stage.severity_encoder, SeverityRecipe):
            stages[f"{name}{SEPARATOR}{cell.labels['degradation']}"] = MeasureCalibration(
                **own,
                prior=stage.prior,
                severity_encoder=stage.severity_encoder,
                degradation=stage.degradation,
                recalibrations=(Factor(),),
                risks=(0.1,),
                num_fit_images=num_fit,
                num_severity_bins=1,
            )
    return stages


def evidence(folders: Mapping[str, Path]) -> dict[str, Any]:
    """By autoencoder: itself, its costs an image, its prior, and by degradation what its severity encoder reads."""
    found: dict[str, Any] = {}
    for name, folder in folders.items():
        autoencoder, what = name.rsplit(SEPARATOR, 1)  # a revision may hold one
        rows, config = read_parquet(folder / ROWS), json.loads((folder / "config.json").read_text())
        mine = found.setdefault(autoencoder, {ITSELF: {}, COST: {}, "encoders": {}})
        if what == COST:
            batch, first = config["batch_size"], rows.iloc[0]
            mine[COST] = {
                operation: {"seconds": one["seconds"].median() / batch, "flops": one["flops"].iloc[0] / batch}
                for operation, one in rows.groupby("operation")
            } | {"where": f"{first['device']}, {first['threads']} thread(s), {batch} images at once"}
        elif what == ITSELF:
            mine[ITSELF] = {
                "latents": json.loads((folder / LATENTS_FILE).read_text())[LATENTS],
                "trained": trained(config["autoencoder"]),
                "psnr": rows["psnr"].tolist(),
                **json.loads((folder / SIZES).read_text()),
            }
        else:
            mine["prior"] = config["prior"]["block_out_channels"]
            mine["encoders"][what] = {
                "calibration": json.loads((folder / calibration.FILE).read_text())[calibration.ALL],
                **{c: rows[c].tolist() for c in ("image_id", "var_hat", "s2", "var_factor", *TRIVIAL)},
            }
    return found


def trained(recipe: Mapping[str, Any]) -> str:
    """An autoencoder's training in a few words: images seen and precision, or that its weights were given."""
    if recipe.get("source", "auto") not in ("auto", "train"):
        return "elsewhere"
    images = f"{recipe['num_train_images']:,} images"
    if "dequantisation" in recipe:
        images += f" with noise {recipe['dequantisation']:g} grey levels wide"
    return f"{images} in {recipe['precision']}" if "precision" in recipe else f"at most {images}"


QUICK = {
    "num_images": 64,
    "num_val_images": 16,
    "num_values": 3,
    "max_extensions": 3,
    "severity_encoder.num_train_images": 20_000,
}

QUICK_PHOTOS = {
    "data": PHOTOGRAPHS,
    # the autoencoder's own encoder, fine-tuned: this study is about what can be read from it
    "severity_encoder": SeverityRecipe(
        degradation=FAMILIES[0], num_train_images=8_000, learning_rate=1e-3, precision="bf16"
    ),
    "num_images": 64,
    "num_val_images": 12,
    "num_values": 3,
    "max_extensions": 2,
}

study = Study(
    cell=EvaluateTuned(start=SNRMatch(variance="encoder")),
    axes=preset(DESK, FAMILIES, {}).axes,
    columns={"prior": None, "severity_encoder.degradation": None, "start.kind": "start", "sampler.num_steps": None},
    support=support,
    evidence=evidence,
    presets={
        "smoke": preset(
            (Tiny(), PCA()),
            FAMILIES[:2],
            {**SMOKE, "num_val_images": 2, "num_values": 3, "max_extensions": 0, "prior.num_train_images": 512},
        ),
        "desk": preset(DESK, FAMILIES[:2], QUICK),
        "all": preset(AUTOENCODERS, FAMILIES[:2], QUICK),
        # the prior that ships was trained far longer than another autoencoder's can be here: both get a short one
        "photos": preset((AUTOENCODER, PCA()), FAMILIES[:2], QUICK_PHOTOS, PRIOR.replace(num_train_images=16_000)),
        "full": preset(AUTOENCODERS, FAMILIES, {"num_val_images": 32, "severity_encoder.num_train_images": 100_000}),
    },
    results=read,
    answer=sections.answer,
    main_figure=sections.main_figure,
    example=sections.example,
    report=(sections.reading, sections.restoration, sections.itself),
)
