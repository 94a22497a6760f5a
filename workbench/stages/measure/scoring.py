"""The measurements of a cell, and its rows: the restored images compared with the ground truth."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.core.measurement import Measurement
from workbench.core.tensors import Images, Latents
from workbench.data import ImageSplit
from workbench.degradations import nearest_equivalent
from workbench.metrics import Absent, Comparison, LPIPSMetric, SetMetric
from workbench.restoration import Restored, Restorer
from workbench.severity.estimate import SeverityEstimate, error_variance
from workbench.severity.start import Full, Matched, OracleVariance
from workbench.severity.variance import Evidence, Need
from workbench.stages.measure.estimates import degrade
from workbench.stages.measure.trivial import trivial_predictors
from workbench.stages.rows import COSTS, DRAW, FIRST_COLUMNS, LAST_COLUMNS, OPERATOR
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    from workbench.stages.measure.evaluate import Evaluate

RESIDUAL_GROWTH = 2.0
"""Factor by which guidance, which should lower the residual, may raise it before the image counts as diverged."""


class Scoring:
    """The measurements of a cell, and the comparison of the restored images with the ground truth.

    Attributes:
        index: positions in the split of the images that are measured here: all, unless other devices have the others.
    """

    def __init__(
        self,
        cell: "Evaluate",
        restorer: Restorer,
        images: ImageSplit,
        lpips: LPIPSMetric | Absent,
        runtime: Runtime,
        networks: Mapping[str, torch.nn.Module],
        absent: Mapping[str, Absent],
    ) -> None:
        self.cell, self.restorer, self.images, self.lpips = cell, restorer, images, lpips
        self.absent = absent
        self.index = torch.arange(len(images))
        self.metrics = [metric for metric in cell.metrics if metric.kind not in absent]
        self.networks = networks
        self.features: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
        self.device = runtime.device
        self.position = {image_id: i for i, image_id in enumerate(images.ids.tolist())}
        self.examples: dict[int, dict[str, Tensor]] = {}
        self.measurement_set = cell.measurement_set()
        self.needs_z0 = Need.TRUTH in cell.start.needs or any("z0" in metric.needs for metric in cell.metrics)

    def measurements(self, batch_size: int) -> Iterator[Measurement]:
        """The cell's measurements, batch by batch; simulated only when slots need them."""
        for index in self.index.split(batch_size):
            yield degrade(self.cell.degradation, self.images, index, self.cell.seed, self.cell.severities).to(
                self.device
            )

    def clean(self, ids: Tensor) -> Images:
        """The clean images with these ids."""
        return self.images.batch([self.position[key] for key in ids.tolist()]).to(self.device)

    @torch.no_grad()
    def clean_latents(self, measurement: Measurement) -> Latents:
        """The clean latents of a measurement's images, for oracle start rules."""
        return self.restorer.autoencoder.encode(self.clean(measurement.ids))

    @torch.no_grad()
    def rows(self, restored: Restored) -> list[dict[str, Any]]:
        """One row per restored image."""
        found = self._comparison(restored)
        columns = {"image_id": restored.ids}
        for metric in self.metrics:
            columns |= metric.checked(found)
            if isinstance(metric, SetMetric) and (pair := metric.features(found)) is not None:
                kept = zip(restored.ids.tolist(), pair[0].cpu(), pair[1].cpu(), strict=True)
                self.features.setdefault(metric.figure, {}).update({key: (x, x_hat) for key, x, x_hat in kept})
        columns |= {name: getattr(restored, name) for name in COSTS}
        if self.cell.num_draws > 1:
            columns[DRAW] = restored.draw
        columns |= trivial_predictors(found.measurement, self.cell.degradation, found.decoded)
        columns |= {name: getattr(restored, name) for name in ("var_hat", "start_variance", "distrusted")}
        if found.z0 is not None:
            columns["s2"] = error_variance(restored.z_hat, found.z0)
            columns["bias"] = (restored.z_hat - found.z0).flatten(1).mean(1)
        columns["start_timestep"] = restored.start_timestep
        if found.z0 is not None:
            columns["oracle_timestep"] = self._oracle_timestep(restored, found.z0)
        columns |= {"fell_back": restored.fell_back, "diverged": self._diverged(found, restored)}
        if (operator := found.measurement.operator) is not None:
            columns[OPERATOR] = operator
        if found.measurement.severity is not None:
            columns["severity"] = found.measurement.severity
        self._keep_examples(found)
        values = {name: column.tolist() for name, column in columns.items()}
        values["measurement_set"] = [self.measurement_set] * len(restored)
        between = [name for name in values if name not in (*FIRST_COLUMNS, *LAST_COLUMNS)]
        order = [name for name in (*FIRST_COLUMNS, *between, *LAST_COLUMNS) if name in values]
        return [{name: values[name][i] for name in order} for i in range(len(restored))]

    def _comparison(self, restored: Restored) -> Comparison:
        """Compare the restored images with the truth, up to what y cannot tell (`nearest_equivalent`).

        E(x) is evaluated here unless the start rule already did.
        """
        x, measurement = self.clean(restored.ids), restored.measurement
        known = [record.z0 for record in restored.records if record.z0 is not None]
        z0 = torch.stack(known) if known else self.restorer.autoencoder.encode(x) if self.needs_z0 else None

        def nearest(images: Images) -> Images:
            return nearest_equivalent(self.cell.degradation, images, x)

        return Comparison(
            x_hat=nearest(restored.x_hat),
            z_hat=restored.z_hat,
            measurement=measurement,
            x=x,
            z0=z0,
            decode=self.restorer.autoencoder.decode,
            measure=lambda x: self.cell.degradation.A(x, measurement.params),
            lpips=self.lpips,
            networks=self.networks,
            is_sound=self.cell.data.is_sound,
            nearest=nearest,
        )

    def take(
        self, examples: dict[int, dict[str, Tensor]], features: dict[str, dict[int, tuple[Tensor, Tensor]]]
    ) -> None:
        """Add what another process has kept of its images."""
        self.examples |= examples
        for figure, kept in features.items():
            self.features.setdefault(figure, {}).update(kept)

    def figures_of_set(self) -> dict[str, dict[str, Any]]:
        """The figures of all images together, by name: mean, low, high (None if there is no interval), num_images."""
        figures = {}
        for metric in self.metrics:
            if isinstance(metric, SetMetric) and (kept := self.features.get(metric.figure)):
                pairs = [kept[key] for key in self.images.ids.tolist()]  # in the split's order
                clean, restored = (torch.stack(side) for side in zip(*pairs, strict=True))
                figures[metric.figure] = asdict(metric.of_set(clean, restored))
        return {
            name: {key: None if value != value else value for key, value in figure.items()}
            for name, figure in figures.items()
        }

    def _diverged(self, found: Comparison, restored: Restored) -> Tensor:
        """Whether the latent exceeded all bounds or, under guidance, x_hat explains y far worse than D(z_hat).

        The latter only applies to chains from z_hat: from pure noise, the residual has to fall first, and may not.
        """
        if not self.cell.solver.guided or isinstance(self.cell.start, Full):
            return restored.diverged
        measurement = found.measurement
        after, before = (measurement.residual_rms(found.measure(x)) for x in (found.x_hat, found.decoded.clamp(0, 1)))
        grew = (after > RESIDUAL_GROWTH * torch.maximum(before, measurement.noise_std)).cpu()
        return restored.diverged | grew & ~restored.fell_back

    def _oracle_timestep(self, restored: Restored, z0: Latents) -> Tensor:
        """The start of `snr_match` on the true variance, with the rule's channel and offset if it has them."""
        rule = self.cell.start
        fields = {"channel": rule.channel, "offset_db": rule.offset_db} if isinstance(rule, Matched) else {}
        chain = self.cell.sampler.chain(self.restorer.prior.levels, z0.shape[1:])
        estimate = SeverityEstimate(restored.z_hat, restored.var_hat.reshape(-1, 1, 1, 1))
        evidence, noise = Evidence(estimate, restored.measurement, truth=z0), torch.zeros_like(restored.z_hat)
        start = OracleVariance(**fields)(evidence, chain, noise)
        return chain.recorded_time(start.position)

    def _keep_examples(self, found: Comparison) -> None:
        kept = set(self.images.ids[: self.cell.num_examples].tolist())
        pictures = {
            "clean": found.x,
            "degraded": found.view,
            "decoded": found.decoded,
            "restored": found.x_hat,
        }
        for i, key in enumerate(found.measurement.ids.tolist()):
            if key in kept:
                self.examples[key] = {name: t[i].clamp(0, 1).cpu() for name, t in pictures.items()}

    def save_examples(self, path: Path) -> None:
        """Write the stored images, (n, channel, height, width) each, 8 bits per value, in the split's order."""
        from safetensors.torch import save_file

        keys = [key for key in self.images.ids.tolist() if key in self.examples]
        names = ("clean", "degraded", "decoded", "restored") if keys else ()
        stacks = {name: torch.stack([self.examples[key][name] for key in keys]) for name in names}
        pictures = {name: (255 * stack).round().to(torch.uint8) for name, stack in stacks.items()}
        save_file({**pictures, "image_id": torch.tensor(keys, dtype=torch.int64)}, path)
