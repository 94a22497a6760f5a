"""Spend a mean number of evaluations where they help most, by what validation images say they are worth.

What an image gains by its n-th evaluation depends on how wrong z_hat is, on what of y D(z_hat) leaves unexplained (the
first evaluations explain it) and, in a mixture of operators, on which one measured it. For each candidate n, the
quality of restored validation images is fitted as a smooth function q_n(x) of these predictors x. An image then takes

    n(x) = argmax over n of q_n(x) - price * n,

with one price for all (a Lagrange multiplier; Everett, Operations Research 11, 1963): no other assignment has a higher
expected quality at as many evaluations. The price is the smallest that meets the budget on the validation images. So,
up to the error of the fit, this bounds what any rule can gain that chooses n by x.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from workbench.core.bounds import MAX_SIZE
from workbench.core.config import Config, UserError
from workbench.core.tensors import Latents, Scalars
from workbench.diffusion import Chain
from workbench.severity.start.base import Start, StartRule
from workbench.severity.start.snr_match import SNRMatch
from workbench.severity.variance import Evidence, Need
from workbench.severity.variance.base import required

Values = NDArray[np.float64]
Value = Annotated[float, Field(ge=-1e12, le=1e12)]
Evaluations = Annotated[int, Field(ge=0, le=100_000)]
Numbers = NDArray[np.int64]
Predictor = Literal["variance", "residual", "operator"]
RIDGE = 1.0
"""Penalty of the squared coefficients, of predictors of unit variance, beside the sum of squares over images."""
LEAST = 1e-12
"""Lower bound of predictors, because the logarithm of 0 is infinite."""
MAX_PRICE = 1e6
"""Maximum price of an evaluation, in units of quality: above it, no image takes one more."""


def numbers_of(predictors: Sequence[Predictor]) -> tuple[Predictor, ...]:
    """Those of the predictors that are numbers."""
    return tuple(name for name in predictors if name != "operator")


def cheapest_best(quality: Values, nfe: Values, price: float) -> Numbers:
    """Each image's candidate of highest quality - price * nfe, (n,); of equal ones, the first.

    Args:
        quality: (n, k), of n images with k candidates.
        nfe: (k,), ascending.
    """
    return (quality - price * nfe).argmax(1)


def price_of(quality: Values, nfe: Values, budget: float) -> float:
    """The smallest price at which the images' mean nfe is within the budget; 0 if all take what is best for them.

    Raises:
        UserError: for a budget below the cheapest candidate.
    """
    if budget < nfe.min():
        raise UserError(f"a budget of {budget:g} evaluations is below the least candidate, {nfe.min():g}")

    def mean(price: float) -> float:
        return float(nfe[cheapest_best(quality, nfe, price)].mean())

    if mean(0.0) <= budget:
        return 0.0
    low, high = 0.0, 1e-6
    while mean(high) > budget and high < MAX_PRICE:
        low, high = high, 4 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) > budget else (low, middle)
    return high


class Curves(Config):
    """The expected quality at each candidate: a sum of polynomials of p predictors, constant outside the fitted range.

    If images differ in their operator, each operator has its own constant and slopes besides.

    Attributes:
        nfe: the candidates, ascending.
        coefficients: for each candidate, of 1, of the powers 1, 2 ... of each (x - centre) / scale and, for each
            operator, of 1 and of each (x - centre) / scale.
        degree: of the polynomials.
        num_operators: 1 if all images have the same.
        low, high: the range of each predictor that was fitted.
    """

    nfe: tuple[Evaluations, ...] = Field(min_length=1, max_length=MAX_SIZE)
    coefficients: tuple[tuple[Value, ...], ...]
    degree: int = Field(ge=0, le=8)
    num_operators: int = Field(ge=1, le=MAX_SIZE)
    centre: tuple[Value, ...]
    scale: tuple[Value, ...]
    low: tuple[Value, ...]
    high: tuple[Value, ...]

    @classmethod
    def fit(cls, nfe: Sequence[int], x: Values, operator: Numbers, quality: Values, degree: int) -> Self:
        """Ridge regression of what an image's quality at each candidate exceeds its mean over candidates by.

        Args:
            x: (n, p), of n images.
            operator: (n,), the number of each image's operator.
            quality: (n, k) of the same images at the k candidates; higher is better.

        Raises:
            UserError: for fewer than two images per coefficient, or values that are not finite.
        """
        needed = 2 * (degree * x.shape[1] + 1)
        if len(x) < needed:
            raise UserError(f"a fit of degree {degree} needs at least {needed} images, got {len(x)}")
        if not (np.isfinite(quality).all() and np.isfinite(x).all()):
            raise UserError("what evaluations are worth can only be fitted to finite qualities and positive variances")
        centre, scale = x.mean(0), x.std(0)
        scale[scale == 0] = 1.0
        num_operators = int(operator.max()) + 1
        terms = _terms((x - centre) / scale, operator, degree, num_operators)
        penalty = RIDGE * np.eye(terms.shape[1])
        penalty[0, 0] = 0.0
        beyond_mean = quality - quality.mean(1, keepdims=True)
        found = np.linalg.solve(terms.T @ terms + penalty, terms.T @ beyond_mean)
        return cls(
            nfe=tuple(nfe),
            coefficients=tuple(map(tuple, found.T.tolist())),
            degree=degree,
            num_operators=num_operators,
            centre=tuple(centre.tolist()),
            scale=tuple(scale.tolist()),
            low=tuple(x.min(0).tolist()),
            high=tuple(x.max(0).tolist()),
        )

    def __call__(self, x: Values, operator: Numbers) -> Values:
        """The expected quality of images beyond their mean over candidates, (n, p) and (n,) -> (n, k)."""
        place = (x.clip(self.low, self.high) - np.array(self.centre)) / np.array(self.scale)
        return _terms(place, operator, self.degree, self.num_operators) @ np.array(self.coefficients).T


class Allocation(Config):
    """What evaluations are worth, and the price that meets a budget."""

    curves: Curves
    price: float = Field(ge=0, le=1e12)

    @classmethod
    def fit(cls, curves: Curves, x: Values, operator: Numbers, budget: float) -> Self:
        """The allocation with this mean number of evaluations on these images, or less."""
        return cls(curves=curves, price=price_of(curves(x, operator), np.array(curves.nfe, float), budget))

    def index(self, x: Values, operator: Numbers) -> Numbers:
        """The candidate of each image, (n, p) and (n,) -> (n,)."""
        return cheapest_best(self.curves(x, operator), np.array(self.curves.nfe, float), self.price)

    def chosen(self, x: Tensor, operator: Tensor) -> Tensor:
        """The evaluations of each image, (batch, p) and (batch,) -> (batch,) int64 on the CPU."""
        index = self.index(x.double().cpu().numpy(), operator.cpu().numpy())
        return torch.tensor(self.curves.nfe)[torch.from_numpy(index)]


class Allocated(StartRule):
    """Each image takes the evaluations that pay most for all, at a mean number of them; see the module.

    Like `snr_match`, it adds the noise that z_hat lacks at the level where it starts.
    """

    kind: Literal["allocated"] = "allocated"
    budget: float = Field(4.0, gt=0, le=100_000, description="mean number of evaluations of the prior per image")
    candidates: tuple[Evaluations, ...] = Field(
        (0, 1, 2, 3, 4, 6, 8, 12), min_length=2, max_length=100, description="numbers of evaluations to choose from"
    )
    of: SNRMatch = Field(SNRMatch(), description="the matched start, whose variance determines the noise to add")
    predictors: tuple[Predictor, ...] = Field(
        ("variance", "residual", "operator"),
        min_length=1,
        description="what determines an image's evaluations: log of the variance to match; log of the root mean square "
        "of y - A(D(z_hat)), which costs one evaluation of the decoder; in a mixture, which operator measured it",
    )
    metric: str = Field(
        "psnr", description="column of the rows whose mean is maximized, or minimized if lower is better"
    )
    degree: int = Field(2, ge=0, le=8, description="degree of the polynomials")
    num_val_images: int = Field(128, ge=2, le=10**6, description="number of validation images for the fit")

    @field_validator("candidates")
    @classmethod
    def _ascending(cls, candidates: tuple[int, ...]) -> tuple[int, ...]:
        if list(candidates) != sorted(set(candidates)):
            raise ValueError(f"candidates must be ascending and different, got {candidates}")
        return candidates

    @field_validator("of")
    @classmethod
    def _plain(cls, of: SNRMatch) -> SNRMatch:
        if Need.RECALIBRATION in of.needs:
            raise ValueError("an allocated start needs a match without recalibration, risk or noise=channel")
        return of

    @property
    def label(self) -> str:
        """The rule with its budget."""
        return f"allocated for {self.metric}, {self.budget:g}"

    @property
    def needs(self) -> Need:
        return self.of.needs | (Need.OPERATOR if "residual" in self.predictors else Need.NOTHING)

    def check(self, chain: Chain) -> None:
        if max(self.candidates) > len(chain):
            raise UserError(
                f"start.candidates include {max(self.candidates)} evaluations, more than the {len(chain)} steps of the "
                "chain: increase sampler.num_steps"
            )
        if self.budget < min(self.candidates):
            raise UserError(f"start.budget = {self.budget:g} is below the least candidate, {min(self.candidates)}")

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        raise UserError("start.kind=allocated needs a fit to validation images: use a study's cell, or restore")


@dataclass(frozen=True)
class Allocating:
    """An allocated start with its fit; chooses starts like a start rule."""

    rule: Allocated
    allocation: Allocation

    @property
    def needs(self) -> Need:
        """The rule's."""
        return self.rule.needs

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        """Choose the start of each image."""
        variance = self.rule.of.source(evidence)
        known: Mapping[str, Callable[[], Scalars]] = {
            "variance": lambda: variance.value,
            "residual": lambda: required(evidence.residual, "start.predictors=residual", Need.OPERATOR)(
                evidence.estimate.z_hat, evidence.measurement
            ),
        }
        values = [known[name]().double().cpu().clamp(min=LEAST).log() for name in numbers_of(self.rule.predictors)]
        x = torch.stack(values, dim=1) if values else torch.zeros(len(noise), 0, dtype=torch.float64)
        operator = evidence.measurement.operator if "operator" in self.rule.predictors else None
        same = torch.zeros(len(noise), dtype=torch.int64)
        position = len(chain) - self.allocation.chosen(x, same if operator is None else operator)
        return self.rule.of.begin(variance, evidence, chain, noise, position=position)


def _terms(x: Values, operator: Numbers, degree: int, num_operators: int) -> Values:
    shared = [np.ones((len(x), 1)), *(x**power for power in range(1, degree + 1))]
    if num_operators == 1:
        return np.concatenate(shared, axis=1)
    own = (operator[:, None] == np.arange(num_operators)).astype(float)
    return np.concatenate([*shared, own, *(own * column[:, None] for column in x.T)], axis=1)
