"""The severity study's results as series: one encoder on one degradation with one noise, at every level.

A row of the results is an image at a level; a series is a table (images, levels) of what was predicted and what was
true, of the same images at every level.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from studies._rows import has_column
from studies._trivial import TRIVIAL
from workbench.config import UserError
from workbench.metrics import Estimate, mean_interval
from workbench.reporting import readable

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.results import StudyResults

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


class Key(NamedTuple):
    """Which encoder, and on what."""

    encoder: str
    trained_noise: str
    degradation: str
    noise: str

    @property
    def is_own(self) -> bool:
        """Whether the encoder was trained on this degradation alone."""
        return self.encoder == self.degradation

    @property
    def is_matched(self) -> bool:
        """Whether it was trained on this degradation alone, and with this noise."""
        return self.is_own and self.trained_noise == self.noise

    @property
    def name(self) -> str:
        """In words, for tables."""
        encoder = "universal encoder" if self.encoder == UNIVERSAL else f"{readable(self.encoder)} encoder"
        trained = "" if self.encoder == UNIVERSAL else f", trained at {self.trained_noise}"
        return f"{encoder}{trained}; on {readable(self.degradation)}, noise {self.noise}"


@dataclass(frozen=True)
class Series:
    """Images at levels; tables are (images, levels).

    Attributes:
        levels: from mild to severe.
        var_hat, s2: the predicted and the true variance of the latent's error.
        trivial: trivial predictors by their columns; empty where the results were made before rows held them.
    """

    levels: NDArray[np.float64]
    var_hat: NDArray[np.float64]
    s2: NDArray[np.float64]
    trivial: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def level_of_each(self) -> NDArray[np.float64]:
        """The level of each entry."""
        return np.broadcast_to(self.levels, self.var_hat.shape)

    @property
    def columns(self) -> dict[str, NDArray[np.float64]]:
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


def read_series(results: "StudyResults") -> dict[Key, Series]:
    """Every series of the results, in the order of the axes' labels.

    Raises:
        UserError: for results with other axes of several values, or levels of different images.
    """
    others = [axis for axis, labels in results.axes.items() if axis not in COLUMNS.values() and len(labels) > 1]
    if others or not {*COLUMNS.values()} <= {*results.axes}:
        raise UserError(
            f"this report needs the axes {', '.join(COLUMNS.values())} and no other of several values; "
            f"the results have: {', '.join(results.axes)}"
        )
    keys = [COLUMNS[axis] for axis in (TRAINED_ON, TRAINED_NOISE, MEMBER, NOISE)]
    groups = results.frame.groupby(keys, observed=True)
    found = {Key(*map(str, key)): _series(rows) for key, rows in groups}

    def place(key: Key) -> tuple[int, ...]:
        return tuple(results.axes[column].index(label) for column, label in zip(keys, key, strict=True))

    return {key: found[key] for key in sorted(found, key=place)}


def _series(rows: "DataFrame") -> Series:
    names = [name for name in TRIVIAL if name != "severity" and has_column(rows, name)]
    columns = {name: rows.pivot(index="image_id", columns="level", values=name) for name in ("var_hat", "s2", *names)}
    labels = sorted(columns["var_hat"].columns, key=float)
    if columns["var_hat"].isna().any(axis=None):
        raise UserError("levels of one series were tested on different images; run the study again")
    tables = {name: table[labels].to_numpy(dtype=float) for name, table in columns.items()}
    trivial = {name: tables.pop(name) for name in names}
    return Series(np.array([float(label) for label in labels]), **tables, trivial=trivial)
