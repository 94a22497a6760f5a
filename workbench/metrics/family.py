"""The base of metrics: figures of each restored image, and the data that they need."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

from torch import Tensor, nn

from workbench.core.config import UserError
from workbench.core.families import Member
from workbench.core.measurement import Measurement
from workbench.core.tensors import Images, Latents, Measurements
from workbench.metrics.inception import inception_features
from workbench.metrics.perceptual import Absent, LPIPSMetric
from workbench.metrics.pretrained import MetricWeights
from workbench.metrics.statistics import Estimate

Need = Literal["x", "z0", "measurement"]
Columns = Mapping[str, Literal["higher", "lower"] | None]
"""By name, which direction is better; None if neither is."""


@dataclass
class Comparison:
    """A batch of restored images with everything known about them.

    Attributes:
        x_hat, z_hat: the restored images, and the estimates of the clean latents that they started from.
        measurement: the measurements.
        x: the clean images.
        z0: their latents E(x); None unless a metric (or the start rule) needs them.
        decode: D.
        measure: A, with the parameters of the measurement.
        lpips: the network of LPIPS, or why it is absent.
        networks: those of other metrics, by kind; none for a metric that is absent.
        is_sound: whether the images are of sound.
        nearest: of images and those that measure the same, the ones nearest to x; x_hat is one.
    """

    x_hat: Images
    z_hat: Latents
    measurement: Measurement
    x: Images
    z0: Latents | None
    decode: Callable[[Latents], Images]
    measure: Callable[[Images], Measurements]
    lpips: LPIPSMetric | Absent
    networks: Mapping[str, nn.Module] = field(default_factory=dict)
    is_sound: bool = False
    nearest: Callable[[Images], Images] = lambda images: images

    @cached_property
    def decoded(self) -> Images:
        """D(z_hat), not clipped: the estimate before any diffusion."""
        return self.nearest(self.decode(self.z_hat))

    @cached_property
    def view(self) -> Images:
        """The image-domain view of y."""
        return self.nearest(self.measurement.encoder_input())

    @cached_property
    def ceiling(self) -> Images:
        """D(E(x)), not clipped: the best decoding of any latent near E(x)."""
        if self.z0 is None:
            raise UserError("a metric that uses E(x) must declare it: needs = frozenset({'z0'})")
        return self.decode(self.z0)

    def inception(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """(batch, features) of the clean and of the restored images, computed once for all metrics."""
        if id(network) not in self._inception:
            self._inception[id(network)] = inception_features(network, self.x), inception_features(network, self.x_hat)
        return self._inception[id(network)]

    @cached_property
    def _inception(self) -> dict[int, tuple[Tensor, Tensor]]:
        return {}


class Metric(Member):
    """A rule for figures of each image. A new built-in one is a class with these declarations, added to `AnyMetric`."""

    columns: ClassVar[Columns]
    """The columns of the rows that it may fill."""
    needs: ClassVar[frozenset[Need]] = frozenset({"x"})
    """The data that it uses besides x_hat; what no metric needs is not computed."""

    def load(self, weights: MetricWeights, image_shape: tuple[int, int, int]) -> nn.Module | Absent | None:
        """The network that it needs for such images, (channel, height, width), or why it is absent; None: needs none.

        Raises:
            UserError: for weights that are missing although they were named, or damaged.
        """
        return None

    @abstractmethod
    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        """(batch,) per column; a column that these images cannot have is omitted from all rows."""

    def checked(self, found: Comparison) -> dict[str, Tensor]:
        """The metric of these images, held to its declarations.

        Raises:
            UserError: for a column that is not declared or is not one number per image, or undeclared `needs`.
        """
        answer, batch = self(found), (len(found.x_hat),)
        for name, column in answer.items():
            if name not in self.columns:
                raise UserError(f"metric {self.kind} fills column {name!r}: declare it in its `columns`")
            if not isinstance(column, Tensor) or column.shape != batch:
                got = tuple(column.shape) if isinstance(column, Tensor) else type(column).__name__
                raise UserError(
                    f"metric {self.kind}: column {name!r} must be a tensor of one number per image, {batch}, got {got}"
                )
        return answer


class SetMetric(Metric):
    """A figure of all restored images together: one a cell, not one an image. It fills no columns of the rows."""

    columns: ClassVar[Columns] = {}

    @property
    @abstractmethod
    def figure(self) -> str:
        """The name of the figure."""

    @property
    @abstractmethod
    def fewest(self) -> int:
        """Number of images below which it is refused."""

    @abstractmethod
    def features(self, found: Comparison) -> tuple[Tensor, Tensor] | None:
        """(batch, features) of the clean and of the restored images; None where it is absent."""

    @abstractmethod
    def of_set(self, clean: Tensor, restored: Tensor) -> Estimate:
        """The figure of all images' features, (n, features) each, in the same order."""

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        return {}
