"""The severity study's results as series: one encoder on one degradation with one noise, at every level.

The prediction is var_hat and the truth s2, the variances of the error of the encoder's latent. "In order" means that of
two measurements at different levels the more degraded one has the larger prediction.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from studies._rows import has_column, require_axes
from studies._trivial import TRIVIAL, trivial_gain, trivial_ranks
from workbench.core.config import UserError
from workbench.metrics import Estimate, mean_interval, ordering_accuracy
from workbench.reporting import readable

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.experiments.results import StudyResults

TRAINED_ON, TRAINED_NOISE = "severity_encoder.degradation.kind", "severity_encoder.degradation.noise_std"
MEMBER, LEVEL, NOISE = "degradation.member.kind", "degradation.severity", "degradation.noise_std"
COLUMNS = {
    TRAINED_ON: "encoder",
    TRAINED_NOISE: "trained noise",
    MEMBER: "degradation",
    LEVEL: "level",
    NOISE: "noise",
}
"""The axes that the report knows, by their columns in the results."""
UNIVERSAL = "mixture"

Table = NDArray[np.float64]
"""(images, levels), levels from mild to severe."""


class Key(NamedTuple):
    """Which encoder, and on what."""

    encoder: str
    trained_noise: str
    degradation: str
    noise: str

    @property
    def is_matched(self) -> bool:
        """Whether it was trained on this degradation alone, and with this noise."""
        return self.encoder == self.degradation and self.trained_noise == self.noise

    @property
    def encoder_name(self) -> str:
        trained = "" if self.encoder == UNIVERSAL else f", trained at noise {self.trained_noise}"
        return f"{readable(self.encoder)} encoder{trained}"

    @property
    def name(self) -> str:
        return f"{self.encoder_name}; on {readable(self.degradation)}, noise {self.noise}"


@dataclass(frozen=True)
class Series:
    """The same images at every level.

    Attributes:
        levels: from mild to severe.
        columns: var_hat, s2, severity (the level of each entry), and the other trivial predictors that the rows hold.
    """

    levels: NDArray[np.float64]
    columns: Mapping[str, Table]

    @property
    def var_hat(self) -> Table:
        return self.columns["var_hat"]

    @property
    def s2(self) -> Table:
        return self.columns["s2"]

    @cached_property
    def calibration(self) -> list[Estimate]:
        """True over predicted variance at each level, mean over images."""
        return [mean_interval(ratio) for ratio in (self.s2 / self.var_hat).T]

    @cached_property
    def mean_calibration(self) -> Estimate:
        """The same over all levels; an image counts once."""
        return mean_interval((self.s2 / self.var_hat).mean(axis=1))

    @cached_property
    def in_order(self) -> Estimate:
        """The share of pairs of two images in order."""
        return ordering_accuracy(self.var_hat)

    @cached_property
    def trivial_gain(self) -> Estimate:
        """By how much the prediction ranks by the truth better than the best trivial predictor, over all levels."""
        return trivial_gain(self.columns)

    @property
    def best_trivial(self) -> str:
        """What ranks best by the truth without a network."""
        ranks = trivial_ranks(self.columns)
        return max(ranks, key=lambda name: abs(ranks[name].mean))


Views = dict[str, dict[str, Series]]


@dataclass(frozen=True)
class SeverityResults:
    """Every series."""

    series: Mapping[Key, Series]

    @property
    def home(self) -> Key | None:
        """The first encoder on the degradation and noise that it was trained with."""
        return next((key for key in self.series if key.is_matched), None)

    @property
    def farthest_noise(self) -> Key | None:
        """The home encoder at the noise, other than its own, at which it is least calibrated."""
        home = self.home
        others = [key for key in self.series if home and key[:3] == home[:3] and key.noise != home.noise]
        return max(others, key=lambda key: abs(np.log(self.series[key].mean_calibration.mean)), default=None)

    @property
    def other_with_least_order(self) -> Key | None:
        """Of the matched encoders of other degradations than the home's, the one with the fewest pairs in order."""
        home = self.home
        others = [key for key in self.series if home and key.is_matched and key.degradation != home.degradation]
        return min(others, key=lambda key: self.series[key].in_order.mean, default=None)

    @cached_property
    def views(self) -> Views:
        """Series that stand side by side, by what they have in common and then by what they differ in.

        An encoder over noises, encoders over their own noise, degradations at one noise; else each by itself.
        """
        over_noises: Views = defaultdict(dict)
        own_noises: Views = defaultdict(dict)
        over_degradations: Views = defaultdict(dict)
        for key, one in sorted(self.series.items(), key=lambda item: float(item[0].noise)):
            noise, degradation = f"noise {key.noise}", readable(key.degradation)
            over_noises[f"{key.encoder_name}, on {degradation}"][noise] = one
            if key.is_matched:
                own_noises[f"{degradation} encoders, each at the noise it was trained at"][noise] = one
                over_degradations[f"each degradation's own encoder, noise {key.noise}"][degradation] = one
        views = {**over_noises, **own_noises, **over_degradations}
        return {title: view for title, view in views.items() if len(view) > 1} or over_noises


def read(results: "StudyResults") -> SeverityResults:
    """Every series of the results.

    Raises:
        UserError: for results with other axes of several values, or levels of different images.
    """
    require_axes(results, COLUMNS.values(), alone=True)
    columns = [COLUMNS[axis] for axis in (TRAINED_ON, TRAINED_NOISE, MEMBER, NOISE)]
    groups = results.frame.groupby(columns, observed=True, sort=False)
    return SeverityResults({Key(*map(str, key)): _series(rows) for key, rows in groups})


def _series(rows: "DataFrame") -> Series:
    names = ["var_hat", "s2", *(name for name in TRIVIAL if name != "severity" and has_column(rows, name))]
    tables = rows.pivot(index="image_id", columns="level", values=names)
    if tables["var_hat"].isna().to_numpy().any():
        raise UserError("levels of one series were tested on different images; run the study again")
    labels = sorted(tables["var_hat"].columns, key=float)
    columns = {name: tables[name][labels].to_numpy(dtype=float) for name in names}
    levels = np.array([float(label) for label in labels])
    return Series(levels, {**columns, "severity": np.broadcast_to(levels, columns["s2"].shape)})
