"""Distributions of the severity over images: how much images differ in how degraded they are.

Each maps the degradation's own draw, uniform on [0, 1] and keyed by image, through its quantile function: an image that
is more degraded than another stays so under every distribution.
"""

from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from workbench.core.families import Member, Open
from workbench.core.tensors import Severities


class SeverityDistribution(Member):
    """A distribution of severities on [0, 1]."""

    @abstractmethod
    def quantile(self, uniform: Severities) -> Severities:
        """Severities that are distributed so, from numbers that are uniform on [0, 1], and in their order."""


class Uniform(SeverityDistribution):
    """All severities are equally likely."""

    kind: Literal["uniform"] = "uniform"

    def quantile(self, uniform: Severities) -> Severities:
        return uniform


class Skewed(SeverityDistribution):
    """Mostly mild, rarely severe: u^power; half of the images are below 0.5^power."""

    kind: Literal["skewed"] = "skewed"
    power: float = Field(3.0, gt=0, le=100, description="1: uniform; the larger, the milder most images are")

    def quantile(self, uniform: Severities) -> Severities:
        return uniform**self.power


class TwoPoint(SeverityDistribution):
    """Two levels, no image in between."""

    kind: Literal["two_point"] = "two_point"
    low: float = Field(0.1, ge=0, le=1, description="the milder level")
    high: float = Field(0.9, ge=0, le=1, description="the more severe level")
    share: float = Field(0.5, ge=0, le=1, description="share of images at the milder level")

    @model_validator(mode="after")
    def _in_order(self) -> "TwoPoint":
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} and {self.high}")
        return self

    def quantile(self, uniform: Severities) -> Severities:
        # torch.where of two numbers would have the default dtype
        return torch.full_like(uniform, self.low).where(uniform < self.share, torch.full_like(uniform, self.high))


AnySeverityDistribution = Annotated[
    Uniform | Skewed | TwoPoint, Field(discriminator="kind"), Open(SeverityDistribution)
]
