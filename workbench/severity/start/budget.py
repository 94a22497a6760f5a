"""What a start may cost: how a start that does not adapt spends what a matched one spends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.config import UserError
from workbench.measurement import Measurement
from workbench.tensors import Scalars


@dataclass(frozen=True)
class Budget:
    """How a control spends what the matched start spends.

    Attributes:
        position: in the chain, where all images begin.
        offset_db: under which all images begin, instead of the matched start's own.
        variances: by image id: that of another image.
        by_severity: mean error variance by severity.
    """

    position: int = 0
    offset_db: float = 0.0
    variances: Mapping[int, float] | None = None
    by_severity: Callable[[Sequence[float]], Sequence[float]] | None = None

    def variance_of(self, measurement: Measurement) -> Scalars:
        """The variance that is matched, of each image."""
        if self.variances is not None:
            ids = measurement.ids.tolist()
            if not self.variances.keys() >= set(ids):
                raise UserError(
                    "start.control=permuted knows the variances of a study's images only: use it in studies"
                )
            return torch.tensor([self.variances[key] for key in ids])
        if self.by_severity is None or measurement.severity is None:
            raise UserError("start.control=known_severity needs the true severities: use it in studies")
        return torch.tensor(self.by_severity(measurement.severity.tolist()))


@dataclass(frozen=True)
class Costs:
    """What restoring costs, in FLOPs of an image: `fixed + per_step * NFE`.

    Attributes:
        total: the mean of the matched start.
        per_step: of one reverse step.
        matched: what the matched start needs beside steps: encoder, decoder and probes of the residual.
        plain: the same without probes.
    """

    total: float
    per_step: float
    matched: float
    plain: float

    @classmethod
    def of(cls, nfe: Sequence[float], flops: Sequence[float], plain: float) -> "Costs":
        """From the rows of a matched start, one value per image.

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
        """The mean NFE that spend the total with so much overhead."""
        return (self.total - overhead) / self.per_step


@dataclass(frozen=True)
class Outcomes:
    """What became of images by a matched start, (n,) each.

    Attributes:
        ids: of the images.
        variance: that was matched.
        severity: the true one.
        true_variance: s2.
    """

    ids: Tensor
    variance: Scalars
    severity: Scalars
    true_variance: Scalars
