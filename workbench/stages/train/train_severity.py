"""Train a severity encoder on one degradation, from the autoencoder's weights and cached clean latents."""

from pathlib import Path
from typing import Any, ClassVar

import torch

from workbench.autoencoders import Autoencoder
from workbench.core.config import UserError
from workbench.core.places import at_home
from workbench.core.tensors import Ids
from workbench.metrics import calibration
from workbench.severity.encoder import SeverityNetwork
from workbench.severity.estimate import error_variance
from workbench.severity.recipe import SeverityRecipe, TrainedSeverity
from workbench.stages.base import Stage
from workbench.stages.latent_stage import LatentStage
from workbench.stages.measure.estimates import degrade, estimates
from workbench.stages.runtime import Runtime
from workbench.stages.train.descend import descend
from workbench.stages.train.encode_latents import EncodeLatents
from workbench.stages.train.together import check_devices
from workbench.weights import zoo

STEPS_PER_EPOCH = 50
NUM_VALIDATION_IMAGES = 256
NUM_CALIBRATION_IMAGES = 512
WEIGHTS = "weights.safetensors"
SHIPPED = "severity_encoder"
"""Its folder next to a shipped autoencoder."""


class TrainSeverity(LatentStage):
    """Degraded training images and their clean latents -> a severity encoder."""

    name: ClassVar[str] = "train_severity"
    artifact_type: ClassVar[str] = "model"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.0022

    severity_encoder: TrainedSeverity

    def effort(self) -> float:
        return self.severity_encoder.num_train_images

    @property
    def trains(self) -> bool:
        return True

    def check_devices(self, number: int) -> None:
        check_devices(self.label, True, self.severity_encoder.batch_size, number)

    @property
    def label(self) -> str:
        return f"severity encoder for {self.severity_encoder.degradation.kind} on {self.autoencoder.label}"

    def latents_stage(self) -> EncodeLatents:
        """The stage of the clean latents."""
        num_images = min(self.severity_encoder.num_train_images, self.data.num_images("train"))
        return EncodeLatents(data=self.data, autoencoder=self.autoencoder, num_images=num_images)

    def upstream(self) -> tuple[Stage, ...]:
        return (self.autoencoder_stage(), self.latents_stage())

    def recipe(self) -> dict[str, Any]:
        """The zoo's record of how the encoder was trained."""
        return self.autoencoder_stage().recipe() | {"severity_encoder": self.severity_encoder.canonical()}

    def given(self) -> Path | None:
        """The folder of given weights; None if they are to be trained or found."""
        source = self.severity_encoder.source
        return None if source in ("train", "auto") else at_home(source)

    def shipped(self) -> Path | None:
        if self.severity_encoder.source == "train":
            return None
        if (folder := self.given()) is not None:
            return folder
        # an encoder belongs to the latents of one autoencoder: both must come from the same zoo folder
        beside = self.autoencoder_stage().shipped()
        folder = beside / SHIPPED if beside is not None else None
        return folder if folder is not None and zoo.made_by(folder, self.recipe()) else None

    def check(self) -> None:
        """Raise UserError for missing or unreadable given weights, before any expensive computation."""
        from safetensors import SafetensorError, safe_open

        if (folder := self.shipped()) is None:
            return
        try:
            with safe_open(folder / WEIGHTS, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{folder} has no severity encoder ({WEIGHTS}: {reason})") from None

    def load(self, runtime: Runtime) -> SeverityNetwork:
        """Load the trained encoder, frozen, on the runtime's device.

        Raises:
            UserError: for given weights that cannot be read or are not for such an encoder.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = self.ensure(runtime)
        encoder = new_encoder(self.severity_encoder, self.autoencoder_stage().load(runtime), self.data.image_shape)
        try:
            encoder.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{folder} has no severity encoder for this autoencoder ({reason})") from None
        return runtime.place(encoder.eval().requires_grad_(False))

    def work(self, folder: Path, runtime: Runtime) -> None:
        from safetensors.torch import save_file

        recipe = self.severity_encoder
        autoencoder = self.autoencoder_stage().load(runtime)
        z0 = self.latents_stage().load(runtime)
        train = self.latents_stage().images()
        encoder = runtime.place(new_encoder(recipe, autoencoder, self.data.image_shape))
        if recipe.precision == "bf16":  # the layout in which CPUs train fastest at this precision
            encoder.to(memory_format=torch.channels_last)

        def make_batch(index: Ids, step: int) -> dict[str, Any]:
            # a new severity, kernel and noise each time that an image is used
            measurement = degrade(recipe.degradation, train, index, seed=recipe.seed + 1 + step)
            return {"view": measurement.encoder_input(), "x": train.batch(index), "z0": z0[index]}

        def loss(batch: dict[str, Any], _: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            z_hat, log_var = encoder(batch["view"])
            return recipe.loss(z_hat.float(), log_var.float(), batch["z0"], batch["x"], autoencoder)

        descend(
            encoder,
            loss,
            make_batch,
            recipe,
            folder,
            runtime,
            num_images=len(train),
            label=self.label,
            stage=self,
            note=lambda row: f"val rank {row['val/spearman_s2']:.2f}, s2/var_hat {row['val/s2_over_var_hat']:.2f}",
            steps_per_epoch=STEPS_PER_EPOCH,
            validate=Validation(self, autoencoder, encoder, runtime),
        )
        calibrated = self._calibration(autoencoder, encoder.eval(), runtime)
        if calibrated is not None:
            (folder / calibration.FILE).write_text(calibration.as_json({calibration.ALL: calibrated}))
        save_file({name: t.contiguous() for name, t in encoder.cpu().state_dict().items()}, folder / WEIGHTS)

    def _calibration(
        self, autoencoder: Autoencoder, encoder: SeverityNetwork, runtime: Runtime
    ) -> calibration.Calibration | None:
        """The calibration of the trained encoder on validation images; None if it cannot be computed."""
        images, recipe = self.data.split("val"), self.severity_encoder
        images = images.first(min(NUM_CALIBRATION_IMAGES, len(images)))
        batches = estimates(autoencoder, encoder, recipe.degradation, images, recipe.seed, runtime.device)
        try:
            rows = [calibration.collect(e.z_hat, z0, e.per_image()) for _, e, z0 in batches]
            return calibration.summarise(calibration.join(rows), num_bins=calibration.bins_for(len(images)))
        except UserError as error:  # the encoder is the result; its calibration is optional
            runtime.progress.say(f"no calibration of the {self.label}: {error}")
            return None


class Validation:
    """How well an encoder ranks and calibrates its own error on fixed validation measurements."""

    def __init__(
        self, stage: TrainSeverity, autoencoder: Autoencoder, encoder: SeverityNetwork, runtime: Runtime
    ) -> None:
        images = stage.data.split("val")
        index = torch.arange(min(NUM_VALIDATION_IMAGES, len(images)))
        measurement = degrade(stage.severity_encoder.degradation, images, index, stage.severity_encoder.seed)
        self.view = measurement.encoder_input().to(runtime.device)
        with torch.no_grad():
            self.z0 = autoencoder.encode(images.batch(index).to(runtime.device))
        self.encoder = encoder

    def __call__(self) -> dict[str, float]:
        from scipy.stats import spearmanr

        estimate = self.encoder.estimate(self.view)
        s2, var_hat = error_variance(estimate.z_hat, self.z0), estimate.per_image()
        return {
            "val/s2": float(s2.mean()),
            "val/spearman_s2": float(spearmanr(s2.cpu(), var_hat.cpu()).statistic),
            "val/s2_over_var_hat": float((s2 / var_hat).mean()),
            "val/nll": float(0.5 * (s2 / var_hat + var_hat.log()).mean()),
        }


def new_encoder(recipe: SeverityRecipe, autoencoder: Autoencoder, image_shape: tuple[int, int, int]) -> SeverityNetwork:
    """An untrained severity encoder with every layer in its final shape."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        encoder = recipe.build(autoencoder).cpu()
        encoder(torch.zeros(2, *image_shape))  # sets the width of the lazy head
    return encoder
