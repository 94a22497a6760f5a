"""Checks of the restored images against the operator; reported because a picture does not show contradictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from workbench.experiments.restore.pictures import some
from workbench.severity.estimate import MAX_VARIANCE

CONTRADICTED = 3
"""The exit status if all images contradict the operator."""
RESIDUAL_RATIOS = 0.25, 2.5
"""Range of the root mean square of y - A(x_hat), relative to that of the noise; outside, the operator or the noise is
wrong. If they are right, 0.6 to 1.9 was observed over all operators, and down to 0.3 in 8-bit files, which clip
noise."""
SETTLED = 1.1
"""An image contradicts the operator if its residual exceeds this multiple of the noise and the residual contradicted
the severity encoder. With the right operator, one image in thirty was distrusted, all with a ratio below 1.04; with
another operator, nearly all were (Fashion-MNIST, start.variance=fused)."""
MODEL_ERROR = 0.05
"""Noise below this level is negligible compared with the model's own error."""


@dataclass(frozen=True)
class Found:
    """Findings for one image.

    Attributes:
        name: name of the image.
        residual: root mean square of y - A(x_hat) over the observed entries.
        noise_std: the noise level passed to the solver.
        distrusted: whether the residual contradicted the severity encoder.
        diverged: whether the latent exceeded all bounds.
        unexplained: whether the start has the largest variance there is, because no error of z_hat explains y.
    """

    name: str
    residual: float
    noise_std: float
    distrusted: bool
    diverged: bool
    unexplained: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Those in a row of the table, of this run or as text of an earlier one."""
        return cls(
            row["image"],
            float(row["residual"]),
            float(row["noise_std"]),
            distrusted=str(row["distrusted"]) == "True",
            diverged=str(row["diverged"]) == "True",
            unexplained=float(row["start_sigma"]) ** 2 > (1 - 1e-6) * MAX_VARIANCE,
        )

    @property
    def ratio(self) -> float:
        """The residual divided by the noise, or by the model's own error if that is larger."""
        return self.residual / max(self.noise_std, MODEL_ERROR)

    @property
    def is_far(self) -> bool:
        """Whether the residual is far from the noise; non-finite ones are."""
        low, high = RESIDUAL_RATIOS
        return not (self.residual >= low * self.noise_std and self.ratio <= high)

    @property
    def contradicts_encoder(self) -> bool:
        """Whether the residual contradicted the severity encoder and is still too large after restoring."""
        return self.distrusted and self.ratio > SETTLED


@dataclass(frozen=True)
class Verdict:
    """Contradictions found in the images.

    Attributes:
        line: message for the user; None if there are none.
        all_contradict: whether all images contradict the operator.
    """

    line: str | None
    all_contradict: bool


def judge(images: Sequence[Found]) -> Verdict:
    """Find the images that contradict the operator."""
    diverged = [image for image in images if image.diverged]
    far = [image for image in images if image.is_far]
    unlikely = [image for image in images if image.contradicts_encoder]
    lost = [image for image in images if image.unexplained]
    against = [image.name for image in images if image in (*diverged, *far, *unlikely, *lost)]
    if not against:
        return Verdict(None, False)
    reasons = [f"{len(diverged)} diverged"] if diverged else []
    if far:
        ratios = sorted(image.ratio for image in far)
        leave = "leaves" if len(far) == 1 else "leave"
        reasons.append(f"{len(far)} {leave} a residual of {ratios[len(ratios) // 2]:.2g} times the noise")
    if unlikely:
        reasons.append(f"in {len(unlikely)} y and the operator contradict the severity encoder")
    if lost:
        start = "starts" if len(lost) == 1 else "start"
        reasons.append(f"{len(lost)} {start} from noise alone, because no error of the estimate explains y")
    contradict = "image contradicts" if len(images) == 1 else "images contradict"
    line = (
        f"{len(against)} of {len(images)} {contradict} the operator or the model ({', '.join(reasons)}): "
        f"{some(against)}; check --operator, --severity, --params and --noise-std, and that the model "
        "knows such images"
    )
    return Verdict(line, len(against) == len(images))
