"""What is known against the restored images: it is said, since nobody sees it in a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.experiments.restore.pictures import some

CONTRADICTED = 3
"""The exit status if all images contradict the operator."""
RESIDUAL_RATIOS = 0.25, 2.5
"""Root mean square of y - A(x_hat) over that of the noise: outside, operator or noise are not what was said. Where they
are, 0.6 to 1.9 was seen over all operators, and down to 0.3 in 8-bit files, which cut noise off at black and white."""
SETTLED = 1.1
"""A residual of so many times the noise, where it contradicted the severity encoder too, has the operator against it.
Of honest images one in thirty was distrusted, all with a ratio below 1.04; of those of another operator nearly all."""
MODEL_ERROR = 0.05
"""Noise below is lost in what the model itself leaves of a picture's detail."""


@dataclass(frozen=True)
class Found:
    """What was found of one image.

    Attributes:
        name: the picture's.
        residual: root mean square of y - A(x_hat) over what was observed.
        noise_std: the level that the solver was told.
        distrusted: whether the residual contradicted the severity encoder.
        diverged: whether the latent left all bounds.
    """

    name: str
    residual: float
    noise_std: float
    distrusted: bool
    diverged: bool

    @property
    def ratio(self) -> float:
        """The residual over the noise, or over the model's own error where that is larger."""
        return self.residual / max(self.noise_std, MODEL_ERROR)

    @property
    def is_far(self) -> bool:
        """Whether the residual is far from the noise; one that is not finite is."""
        low, high = RESIDUAL_RATIOS
        return not (self.residual >= low * self.noise_std and self.ratio <= high)

    @property
    def contradicts_encoder(self) -> bool:
        """Whether the residual contradicted the severity encoder, and restoring has not settled it."""
        return self.distrusted and self.ratio > SETTLED


@dataclass(frozen=True)
class Verdict:
    """What is known against the images.

    Attributes:
        line: what to tell the user; None: nothing.
        all_contradict: whether all contradict the operator.
    """

    line: str | None
    all_contradict: bool


def judge(images: Sequence[Found]) -> Verdict:
    """Which images contradict the operator."""
    diverged = [image for image in images if image.diverged]
    far = [image for image in images if image.is_far]
    unlikely = [image for image in images if image.contradicts_encoder]
    against = [image.name for image in images if image in (*diverged, *far, *unlikely)]
    if not against:
        return Verdict(None, False)
    reasons = [f"{len(diverged)} diverged"] if diverged else []
    if far:
        ratios = sorted(image.ratio for image in far)
        reasons.append(f"{len(far)} leave a residual of {ratios[len(ratios) // 2]:.2g} times the noise")
    if unlikely:
        reasons.append(f"in {len(unlikely)} y and operator contradict the severity encoder")
    line = (
        f"{len(against)} of {len(images)} images contradict the operator you gave ({', '.join(reasons)}): "
        f"{some(against)}; check --operator, --severity, --params and --noise-std"
    )
    return Verdict(line, len(against) == len(images))
