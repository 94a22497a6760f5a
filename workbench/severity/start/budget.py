"""The budget of a start that does not adapt, to spend the same as a matched one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.core.tensors import Scalars


@dataclass(frozen=True)
class Budget:
    """How a control spends the cost of the matched start.

    Attributes:
        position: position in the chain where all images start.
        offset_db: offset for all images, replacing the matched start's own.
        variances: image id -> variance of another image.
        by_severity: mean error variance by severity.
    """

    position: int = 0
    offset_db: float = 0.0
    variances: Mapping[int, float] | None = None
    by_severity: Callable[[Sequence[float]], Sequence[float]] | None = None

    def variance_of(self, measurement: Measurement) -> Scalars:
        """The variance to match, for each image."""
        if self.variances is not None:
            ids = measurement.ids.tolist()
            if not self.variances.keys() >= set(ids):
                raise UserError("start.control=permuted needs the variances of a study's images: use it in studies")
            return torch.tensor([self.variances[key] for key in ids])
        if self.by_severity is None or measurement.severity is None:
            raise UserError("start.control=known_severity needs the true severities: use it in studies")
        return torch.tensor(self.by_severity(measurement.severity.tolist()))


@dataclass(frozen=True)
class Costs:
    """The cost of restoring, in FLOPs per image: `fixed + per_step * NFE`.

    Attributes:
        total: mean total cost of the matched start.
        per_step: cost of one reverse step.
        matched: cost of the matched start besides steps: encoder, decoder and probes of the residual.
        plain: the same without probes.
    """

    total: float
    per_step: float
    matched: float
    plain: float

    @classmethod
    def of(cls, nfe: Sequence[float], flops: Sequence[float], plain: float) -> "Costs":
        """Compute the costs from the rows of a matched start, one value per image.

        Args:
            plain: FLOPs of one evaluation of the encoder and one of the decoder.
        """
        steps, spent = torch.tensor(nfe, dtype=torch.float64), torch.tensor(flops, dtype=torch.float64)
        centred = steps - steps.mean()
        if bool(centred.any()):
            per_step = float((centred * spent).sum() / centred.square().sum())
        else:
            per_step = float((spent.mean() - plain) / steps.mean().clamp(min=1))
        return cls(float(spent.mean()), per_step, float(spent.mean()) - per_step * float(steps.mean()), plain)

    def steps(self, overhead: float) -> float:
        """The mean NFE that spend the total with this overhead."""
        return (self.total - overhead) / self.per_step


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of images with a matched start, (n,) each.

    Attributes:
        ids: ids of the images.
        variance: the matched variance.
        severity: the true severity.
        true_variance: s2.
    """

    ids: Tensor
    variance: Scalars
    severity: Scalars
    true_variance: Scalars
