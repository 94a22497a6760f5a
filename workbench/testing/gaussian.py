"""Gaussian distributions in closed form: conditioned, diffused, compared with each other and with samples."""

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor


@dataclass(frozen=True)
class Gap:
    """Distance between two Gaussians, in units of the other's standard deviations; both are 0 for equal distributions.

    With m, C of this Gaussian, m*, C* of the other, L L^T = C*, and d dimensions:

    Attributes:
        mean: |L^-1 (m - m*)|_2 / sqrt(d): the shift in standard deviations, root mean square over directions.
        covariance: |L^-1 C L^-T - I|_F / sqrt(d): the relative error of the variances, likewise.
    """

    mean: float
    covariance: float


@dataclass(frozen=True)
class Agreement:
    """Probability that samples of a distribution are at least as far from it as these samples.

    Attributes:
        mean: p-value of the sample mean.
        covariance: p-value of the sample covariance.
    """

    mean: float
    covariance: float


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance).

    Attributes:
        mean: (d,) float64.
        covariance: (d, d) float64.
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def standard(cls, size: int) -> "Gaussian":
        """N(0, I)."""
        return cls(torch.zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64))

    @classmethod
    def of(cls, draws: Tensor) -> "Gaussian":
        """The sample mean and covariance of samples, (n, d)."""
        return cls(draws.double().mean(0), draws.double().T.cov())

    def moved(self, slope: Tensor, offset: Tensor, noise_variance: float = 0.0) -> "Gaussian":
        """The distribution of slope z + offset + noise of this variance, for z from this distribution."""
        covariance = slope @ self.covariance @ slope.T
        return Gaussian(slope @ self.mean + offset, covariance + noise_variance * torch.eye(len(covariance)).double())

    def diffused(self, alpha_bar: float) -> "Gaussian":
        """The distribution of z_t = sqrt(alpha_bar) z0 + sqrt(1 - alpha_bar) eps, for z0 from this distribution."""
        signal = math.sqrt(alpha_bar) * torch.eye(len(self.mean)).double()
        return self.moved(signal, torch.zeros_like(self.mean), 1 - alpha_bar)

    def given(self, matrix: Tensor, y: Tensor, noise_variance: float) -> "Gaussian":
        """The distribution of z given y = matrix z + noise of this variance; y is (m,), the matrix (m, d)."""
        marginal = matrix @ self.covariance @ matrix.T + noise_variance * torch.eye(len(matrix)).double()
        gain = torch.linalg.solve(marginal, matrix @ self.covariance).T
        return Gaussian(self.mean + gain @ (y - matrix @ self.mean), self.covariance - gain @ matrix @ self.covariance)

    def gap(self, other: "Gaussian") -> Gap:
        """The gap of this distribution to the other."""
        shift, covariance = self._whitened_by(other)
        excess = covariance - torch.eye(len(covariance)).double()
        scale = math.sqrt(len(shift))
        return Gap(float(shift.norm()) / scale, float(excess.norm()) / scale)

    def agreement(self, draws: Tensor) -> Agreement:
        """Whether samples, (n, d) with n well above d, may come from this distribution.

        In coordinates in which it is N(0, I), with the sample mean w and S the mean of the outer products of the
        samples, n |w|^2 is chi-square with d degrees of freedom, and n / 2 |S - I|_F^2 for large n with d (d + 1) / 2
        (Nagao, Annals of Statistics 1, 1973).
        """
        num_draws, size = draws.shape
        centred = draws.double() - self.mean
        sample = Gaussian(centred.mean(0), centred.T @ centred / num_draws)
        shift, covariance = sample._whitened_by(Gaussian(torch.zeros_like(self.mean), self.covariance))
        excess = covariance - torch.eye(size).double()
        return Agreement(
            mean=float(stats.chi2.sf(num_draws * float(shift.square().sum()), size)),
            covariance=float(stats.chi2.sf(num_draws / 2 * float(excess.square().sum()), size * (size + 1) / 2)),
        )

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Draws, (num, d)."""
        white = torch.randn(num, len(self.mean), generator=generator, dtype=torch.float64)
        return self.mean + white @ torch.linalg.cholesky(self.covariance).T

    def _whitened_by(self, other: "Gaussian") -> tuple[Tensor, Tensor]:
        """Mean and covariance in coordinates in which the other distribution is N(0, I)."""
        root = torch.linalg.cholesky(other.covariance)
        shift = torch.linalg.solve_triangular(root, (self.mean - other.mean)[:, None], upper=False)[:, 0]
        half = torch.linalg.solve_triangular(root, self.covariance, upper=False)
        return shift, torch.linalg.solve_triangular(root, half.T, upper=False)
