"""The severity study's results as series: one encoder on one degradation with one noise, at every level.

The prediction is var_hat and the truth s2, the variances of the error of the encoder's latent. "In order" means that of
two measurements at different levels the more degraded one has the larger prediction.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from studies._rows import has_column
from studies._trivial import TRIVIAL, trivial_gain, trivial_of
from workbench.core.config import UserError
from workbench.metrics import (
    Estimate,
    mean_interval,
    ordering_accuracy,
    own_ordering_accuracy,
    spearman_across,
    spearman_within,
)
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
        trivial: trivial predictors by their columns; empty where the results were made before rows held them.
    """

    levels: NDArray[np.float64]
    var_hat: Table
    s2: Table
    trivial: Mapping[str, Table] = field(default_factory=dict)

    @property
    def level_of_each(self) -> Table:
        return np.broadcast_to(self.levels, self.var_hat.shape)

    @property
    def columns(self) -> dict[str, Table]:
        """What `_trivial` compares; the level of each entry is its severity."""
        return {"var_hat": self.var_hat, "s2": self.s2, "severity": self.level_of_each, **self.trivial}

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
    def own_in_order(self) -> Estimate:
        """The share of pairs of one image at two levels in order."""
        return own_ordering_accuracy(self.var_hat)

    @cached_property
    def ranks(self) -> dict[str, Estimate]:
        """Spearman's correlation of the prediction with the level and with the truth."""
        return {
            "rank, level": spearman_across(self.var_hat, self.level_of_each),
            "rank, true variance": spearman_across(self.var_hat, self.s2),
            "within a level": spearman_within(self.var_hat, self.s2),
        }

    @cached_property
    def trivial_gain(self) -> Estimate:
        """By how much the prediction ranks by the truth better than the best trivial predictor, over all levels."""
        return trivial_gain(self.columns)

    @property
    def best_trivial(self) -> str:
        """What ranks best by the truth without a network."""
        ranks = {name: spearman_across(values, self.s2).mean for name, values in trivial_of(self.columns).items()}
        return max(ranks, key=lambda name: abs(ranks[name]))

    @property
    def oriented_trivial(self) -> dict[str, Table]:
        """The trivial predictors but for the level, each with the sign with which it grows with the level."""
        found = {name: values for name, values in trivial_of(self.columns).items() if name != TRIVIAL["severity"]}
        signs = {name: spearman_across(values, self.level_of_each).mean for name, values in found.items()}
        return {name: values if signs[name] >= 0 else -values for name, values in found.items()}


@dataclass(frozen=True)
class View:
    """Series that stand side by side: what they have in common, and each by what it differs in."""

    title: str
    columns: Mapping[str, Series]


@dataclass(frozen=True)
class SeverityResults:
    """Every series, in the order of the axes' labels."""

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
    def views(self) -> list[View]:
        """An encoder over noises, encoders over their own noise, degradations at one noise; else each by itself."""
        views = [*self._over_noises(), *self._own_noises(), *self._over_degradations()]
        return views or [View(key.name, {f"noise {key.noise}": one}) for key, one in self.series.items()]

    def _over_noises(self) -> Iterator[View]:
        for same in dict.fromkeys(key[:3] for key in self.series):
            mine = {key: one for key, one in self.series.items() if key[:3] == same}
            key = next(iter(mine))
            if len(mine) > 1:
                title = f"{key.encoder_name}, on {readable(key.degradation)}"
                yield View(title, {f"noise {k.noise}": one for k, one in mine.items()})

    def _own_noises(self) -> Iterator[View]:
        matched = sorted((key for key in self.series if key.is_matched), key=lambda key: float(key.noise))
        for degradation in dict.fromkeys(key.degradation for key in self.series):
            mine = {f"noise {k.noise}": self.series[k] for k in matched if k.degradation == degradation}
            if len(mine) > 1:
                yield View(f"{readable(degradation)} encoders, each at the noise it was trained at", mine)

    def _over_degradations(self) -> Iterator[View]:
        for noise in dict.fromkeys(key.noise for key in self.series):
            mine = {readable(k.degradation): s for k, s in self.series.items() if k.is_matched and k.noise == noise}
            if len(mine) > 1:
                yield View(f"each degradation's own encoder, noise {noise}", mine)


def read(results: "StudyResults") -> SeverityResults:
    """Every series of the results.

    Raises:
        UserError: for results with other axes of several values, or levels of different images.
    """
    others = [axis for axis, labels in results.axes.items() if axis not in COLUMNS.values() and len(labels) > 1]
    if others or not {*COLUMNS.values()} <= {*results.axes}:
        raise UserError(
            f"this report needs the axes {', '.join(COLUMNS.values())} and no other of several values; "
            f"the results have: {', '.join(results.axes)}"
        )
    columns = [COLUMNS[axis] for axis in (TRAINED_ON, TRAINED_NOISE, MEMBER, NOISE)]
    found = {Key(*map(str, key)): _series(rows) for key, rows in results.frame.groupby(columns, observed=True)}

    def place(key: Key) -> tuple[int, ...]:
        return tuple(results.axes[column].index(label) for column, label in zip(columns, key, strict=True))

    return SeverityResults({key: found[key] for key in sorted(found, key=place)})


def _series(rows: "DataFrame") -> Series:
    names = [name for name in TRIVIAL if name != "severity" and has_column(rows, name)]
    columns = {name: rows.pivot(index="image_id", columns="level", values=name) for name in ("var_hat", "s2", *names)}
    labels = sorted(columns["var_hat"].columns, key=float)
    if columns["var_hat"].isna().any(axis=None):
        raise UserError("levels of one series were tested on different images; run the study again")
    tables = {name: table[labels].to_numpy(dtype=float) for name, table in columns.items()}
    trivial = {name: tables.pop(name) for name in names}
    return Series(np.array([float(label) for label in labels]), **tables, trivial=trivial)
