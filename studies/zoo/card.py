"""A trained pair as a folder to ship: weights, recipe, and a model card with what was measured."""

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import StrictUndefined, Template
from safetensors.torch import load_file, save_file

from studies._photos import UNIVERSAL
from workbench.autoencoders import Autoencoder, DescentRecipe, Patch, Tiny
from workbench.core import randomness
from workbench.core.digests import write_digests
from workbench.core.tensors import Images
from workbench.data import ImageSplit
from workbench.data.preparation import size_text
from workbench.degradations import Mixture, members_of
from workbench.diffusion import DDIM, Prior, UNetRecipe
from workbench.experiments.results import Cell
from workbench.metrics import Absent, LPIPSConfig, load_lpips, mean_interval, psnr, spearman, ssim_columns
from workbench.metrics.perceptual import LPIPS_CHANNELS
from workbench.reporting import QUANTITIES
from workbench.severity.estimate import error_variance
from workbench.severity.recipe import SeverityRecipe
from workbench.stages.fit.fit_fusion import FUSION, STATISTICS, FitFusion
from workbench.stages.fit.fit_non_blind import NON_BLIND, FitNonBlind
from workbench.stages.measure.estimates import estimates
from workbench.stages.provenance import read_provenance
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_prior import TrainPrior
from workbench.stages.train.train_severity import SHIPPED, WEIGHTS, TrainSeverity
from workbench.weights import zoo

NUM_TEST_IMAGES = 1000
CLOTHES: dict[str, Any] = {"degradation": Mixture(), "num_train_images": 100_000}
"""The recipe of the severity encoder for clothes."""
PRESETS = {"tiny_imagenet": "photos", "chest_mr": "chest_mr", "spoken_digits": "spoken_digits"}
"""The preset of this study that makes the pair of a data set, other than Fashion-MNIST."""
NUM_SAMPLES = 64
NUM_PAIRS = 16
NUM_STEPS = 200


def export(cells: Sequence[Cell], folder: Path, runtime: Runtime) -> None:
    """Write each cell's pair to a folder of its own below `folder`, in the zoo's layout."""
    for cell in cells:
        stage = cell.stage
        assert isinstance(stage, TrainPrior)
        size = size_text(stage.data.size).replace(" ", "")
        target = folder / f"{stage.data.kind}_{size}_{stage.autoencoder.kind}"
        write_pair(stage, target, runtime)
        if stage.data.kind == "tiny_imagenet" or isinstance(stage.autoencoder, Tiny):  # those that `restore` uses
            write_severity_encoder(universal(stage), target / SHIPPED, runtime)
            write_statistics(universal(stage), target, runtime)
        write_digests(target)
        runtime.progress.say(f"{target}: to ship it, cp -r {target} {zoo.zoo_root()}/")


def trained(stage: TrainPrior) -> UNetRecipe:
    """How the prior is trained."""
    assert isinstance(stage.prior, UNetRecipe)
    return stage.prior


def universal(stage: TrainPrior) -> TrainSeverity:
    """The stage that trains the severity encoder which ships with a pair."""
    recipe = UNIVERSAL if isinstance(stage.autoencoder, Patch) else SeverityRecipe(**CLOTHES)
    num_images = min(recipe.num_train_images, trained(stage).num_train_images)
    recipe = recipe.replace(num_train_images=num_images, source="train")
    return TrainSeverity(data=stage.data, autoencoder=stage.autoencoder, severity_encoder=recipe)


@torch.no_grad()
def write_pair(stage: TrainPrior, target: Path, runtime: Runtime) -> None:
    """Weights in diffusers' folder format, recipe.json, README.md, samples.png and reconstructions.png."""
    from torchvision.utils import save_image

    folders = [stage.autoencoder_stage().ensure(runtime), stage.ensure(runtime)]
    shutil.rmtree(target, ignore_errors=True)
    for folder, part in zip((folders[0], folders[1], folders[1]), ("autoencoder", "unet", "scheduler"), strict=True):
        shutil.copytree(folder / part, target / part)
    (target / zoo.RECIPE).write_text(json.dumps(stage.recipe(), indent=2))

    autoencoder = stage.autoencoder_stage().load(runtime)
    x = _test_images(stage).batch(slice(None)).to(runtime.device)
    z = torch.cat([autoencoder.encode(part) for part in x.split(250)])
    x_hat = torch.cat([autoencoder.decode(part) for part in z.split(250)]).clamp(0, 1)
    pairs = torch.stack([x[:NUM_PAIRS], x_hat[:NUM_PAIRS]], 1).flatten(0, 1)
    save_image(pairs, target / "reconstructions.png", nrow=8)
    save_image(sample(stage.load(runtime), autoencoder, stage, runtime), target / "samples.png", nrow=8)

    similarities = ssim_columns(x_hat, x)
    ssim = "ssim_valid" if "ssim_valid" in similarities else "ssim"
    similarity = f"{QUANTITIES[ssim].label} {mean_interval(similarities[ssim])}"
    if not isinstance(lpips := load_lpips(LPIPSConfig()), Absent) and x.shape[1] in LPIPS_CHANNELS:
        distances = torch.cat([lpips(*pair) for pair in zip(x_hat.split(100), x.split(100), strict=True)])
        similarity += f", LPIPS {mean_interval(distances)}"
    minutes = [f"{read_provenance(path).get('wall_seconds', 0.0) / 60:.0f}" for path in folders]
    made = "fitted without descent"
    if isinstance(own := stage.autoencoder, DescentRecipe):
        made = f"{own.num_train_images} training images seen, seed {own.seed}, {minutes[0]} minutes"
    write_card(
        target,
        "card",
        stage=stage,
        size=size_text(stage.data.size),
        latent=" x ".join(map(str, z.shape[1:])),
        num_test=len(x),
        psnr=mean_interval(psnr(x_hat, x)),
        similarity=similarity,
        preset=PRESETS.get(stage.data.kind, own.kind),
        mean=", ".join(f"{value:.2f}" for value in z.mean((0, 2, 3)).tolist()),
        std=", ".join(f"{value:.2f}" for value in z.std((0, 2, 3)).tolist()),
        made=made,
        prior_minutes=minutes[1],
        num_steps=NUM_STEPS,
    )


def write_card(target: Path, name: str, **values: object) -> None:
    """README.md from the template of a model card."""
    text = (Path(__file__).with_name("templates") / f"{name}.md.jinja").read_text()
    template = Template(text, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    (target / "README.md").write_text(template.render(values))


@torch.no_grad()
def write_severity_encoder(stage: TrainSeverity, target: Path, runtime: Runtime) -> None:
    """Weights in half precision, recipe.json and README.md of a severity encoder, to stand beside its autoencoder."""
    weights = load_file(stage.ensure(runtime) / WEIGHTS)
    target.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half() for name, tensor in weights.items()}, target / WEIGHTS)
    (target / zoo.RECIPE).write_text(json.dumps(stage.recipe(), indent=2))
    encoder = stage.replace({"severity_encoder.source": str(target)}).load(runtime)
    autoencoder, recipe, test = stage.autoencoder_stage().load(runtime), stage.severity_encoder, _test_images(stage)
    rows = []
    for family in members_of(recipe.degradation):
        found = [
            torch.stack([error_variance(estimate.z_hat, z0), estimate.per_image()])
            for _, estimate, z0 in estimates(autoencoder, encoder, family, test, recipe.seed, runtime.device)
        ]
        s2, var_hat = torch.cat(found, dim=1).cpu()
        rank, ratio = spearman(var_hat, s2), mean_interval(s2 / var_hat)
        rows.append({"family": family.kind, "s2": f"{s2.mean():.3f}", "rank": rank, "ratio": ratio})
    preset = " --preset photos" if isinstance(stage.autoencoder, Patch) else ""
    write_card(target, "encoder_card", recipe=recipe, num_test=len(test), rows=rows, preset=preset)


def write_statistics(stage: TrainSeverity, target: Path, runtime: Runtime) -> None:
    """Statistics of the severity encoder in a pair's folder, for starts that check or correct its variance."""
    given = stage.severity_encoder.replace(source=str(target / SHIPPED))
    fields = {"data": stage.data, "autoencoder": stage.autoencoder, "severity_encoder": given}
    (target / STATISTICS).mkdir(exist_ok=True)
    shutil.copy(FitFusion(**fields).ensure(runtime) / FUSION, target / STATISTICS)
    if isinstance(stage.autoencoder, Patch):  # `restore` uses it for photographs
        known = FitNonBlind(**fields, degradation=given.degradation)
        shutil.copy(known.ensure(runtime) / NON_BLIND, target / STATISTICS)


def _test_images(stage: TrainPrior | TrainSeverity) -> ImageSplit:
    test = stage.data.split("test")
    return test.first(min(NUM_TEST_IMAGES, len(test)))


def sample(prior: Prior, autoencoder: Autoencoder, stage: TrainPrior, runtime: Runtime) -> Images:
    """Unconditional samples by deterministic DDIM."""
    sampler = DDIM(num_steps=min(NUM_STEPS, trained(stage).num_timesteps))
    shape = autoencoder.latent_shape(stage.data.image_shape)
    z = torch.randn(NUM_SAMPLES, *shape, generator=randomness.generator("zoo", "samples")).to(runtime.device)
    chain = sampler.chain(prior.levels, z.shape[1:])
    for time, (a, a_next) in zip(chain.time, itertools.pairwise(chain.alpha_bar), strict=True):
        z0_hat, eps = prior.predict(z, time.expand(NUM_SAMPLES))
        z = sampler.step(z0_hat, eps, a.expand(NUM_SAMPLES), a_next.expand(NUM_SAMPLES), torch.zeros_like(z))
    return autoencoder.decode(z).clamp(0, 1)
