"""Photon noise: few counts, and the likelihood that they have."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from workbench.core import randomness
from workbench.core.measurement import Measurement
from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations.base import Degradation, Params, check_severity
from workbench.degradations.given import Given, check_values

MOST, FEWEST = 1000.0, 10.0
"""Photons of a white pixel at severity 0 and 1."""
SHIFT = 3 / 8
"""Anscombe's, Biometrika 35, 1948."""
NEAR = 1e-2
"""Relative difference from which the deviance is computed as it is defined; below, by its series."""
ROOT_OF_NOTHING = 0.01
"""Photons below which expected counts are continued exponentially, so that their logarithm exists."""


class Poisson(Degradation):
    """Counts of photons: N ~ Poisson(photons x), from 1000 photons of a white pixel (severity 0) to 10 (severity 1).

    y is the stabilised root of the counts, sqrt(N / photons + 3 / (8 photons)), whose noise has nearly the same
    standard deviation everywhere, 1 / (2 sqrt(photons)). With the counts known, A(x) differs from y by the signed root
    of the Poisson deviance of x (McCullagh and Nelder, Generalized Linear Models, 1989, section 2.3):

        |y - A(x)|^2 = (1 / (2 photons)) sum of lambda - N + N log(N / lambda),  lambda = photons x

    so that the least squares of every solver is exactly the Poisson likelihood. Gaussian read noise is added to the
    counts' variance: N + (photons read_std)^2 is nearly a Poisson variable (Snyder et al., JOSA A 10, 1993) if that
    variance is not far below 1. Where less than about one photon is expected, the deviance has less than unit variance.

    The number of photons falls by the same factor for every step of severity. The encoder reads N / photons.
    """

    kind: Literal["poisson"] = "poisson"
    noise_std: float = Field(0.0, ge=0, le=1, description="standard deviation of read noise on [0, 1] images")

    linear: ClassVar[bool] = False
    derived: ClassVar[tuple[str, ...]] = ("counts",)
    identity_db: ClassVar[float] = 100.0
    noise_error: ClassVar[float] = 0.1
    severity_range: ClassVar[str] = "photons of a white pixel 1000 -> 10, geometric"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`photons` (batch, 1, 1, 1); `measure` adds the counts, in units of them."""
        return {"photons": _photons(severity)[:, None, None, None]}

    def A(self, x: Images, params: Params) -> Measurements:
        """The root of the expected counts; with the counts known, y minus the root of the deviance."""
        photons = params["photons"].to(x)
        if "counts" not in params:
            return (x.clamp(min=0) + self._shift(photons)).sqrt()
        counts = params["counts"].to(x)
        return (counts + self._shift(photons)).sqrt() + _root_of_deviance(x, counts, photons, self._read(photons))

    def view(self, y: Measurements, params: Params) -> Images:
        """N / photons."""
        return y.square() - self._shift(params["photons"].to(y))

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """That of the stabilised root."""
        photons = _photons(severity) if params is None else params["photons"].flatten()
        return 0.5 / photons.sqrt()

    def measure(self, x: Images, severity: Severities, ids: Ids, seed: int) -> Measurement:
        check_severity(severity)
        params = self.parameters(severity, ids, seed, (x.shape[1], x.shape[2], x.shape[3]))
        photons = params["photons"].to(x)
        rates = iter((photons * x.clamp(min=0)).cpu())
        counts = randomness.per_image(ids, (seed, "photons"), lambda g: torch.poisson(next(rates), generator=g)).to(x)
        read = self.noise_std * randomness.normal(ids, (seed, "noise"), tuple(x.shape[1:])).to(x)
        return self._counted(counts / photons + read, severity, ids, params)

    def given_measurement(
        self, y: Tensor, severity: Severities, ids: Ids, params: Params
    ) -> tuple[Measurement, list[str]]:
        """An image whose white is a count of `photons`."""
        check_values(y)
        return self._counted(y, severity, ids, params), []

    def with_own_noise(self, measurement: Measurement) -> Measurement:
        """The counts are kept: their root depends on the read noise."""
        assert measurement.severity is not None
        counts = measurement.params["counts"]
        return self._counted(counts, measurement.severity, measurement.ids, measurement.params)

    def severity_of(self, params: Params) -> Severities:
        """By the number of photons."""
        found = (params["photons"].flatten() / MOST).log() / math.log(FEWEST / MOST)
        return found.clamp(0, 1)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """The photons of a white pixel."""
        given = Given(self.kind, params, ("photons",), image_shape)
        return given.taken({"photons": given.numbers("photons", 1, 1, 1, low=1, high=1e9)})

    def describe(self, severity: float) -> str:
        """The photons of a white pixel."""
        return f"{float(_photons(torch.tensor(severity))):.0f} photons"

    def _counted(self, counts: Tensor, severity: Severities, ids: Ids, params: Params) -> Measurement:
        """The measurement of these counts, in units of a white pixel's."""
        photons = params["photons"].to(counts)
        counts = torch.maximum(counts, -self._read(photons))  # read noise may exceed them
        y = (counts + self._shift(photons)).sqrt()
        return self.received(y, severity, ids, {**params, "counts": counts}, None)

    def _read(self, photons: Tensor) -> Tensor:
        """The variance of the read noise, as counts in units of a white pixel's."""
        return photons * self.noise_std**2

    def _shift(self, photons: Tensor) -> Tensor:
        return SHIFT / photons + self._read(photons)


def _photons(severity: Tensor) -> Tensor:
    return MOST * (FEWEST / MOST) ** severity


def _root_of_deviance(x: Tensor, counts: Tensor, photons: Tensor, read: Tensor) -> Tensor:
    """sign(x - c) sqrt((x - c + c log(c / x)) / 2), smooth at x = c, and continued to negative x.

    Args:
        x: expected counts, in units of a white pixel's, as all are.
        counts: measured ones, c.
        read: is added to both.
    """
    least = ROOT_OF_NOTHING / photons
    x, c = x + read, counts + read
    is_small = x < least
    log_x = torch.where(is_small, least.log() + (x - least) / least, torch.where(is_small, least, x).log())
    x = torch.where(is_small, log_x.clamp(min=-80).exp(), x)
    t = (x - c) / c.clamp(min=1e-12)
    is_near = t.abs() < NEAR
    near = torch.where(is_near, t, 0)
    by_series = c.sqrt() * near * (1 - 2 * near / 3 + near.square() / 2).sqrt() / 2
    deviance = torch.where(is_near, 1, x - c + torch.xlogy(c, c) - c * log_x).clamp(min=1e-20)
    return torch.where(is_near, by_series, (x - c).sign() * (deviance / 2).sqrt())
