"""The severity study's results as series: one encoder on one degradation with one noise, at every level.

A series is frames by name, of one row per image and one column per level, from mild to severe: the prediction var_hat
and the truth s2, variances of the error of the encoder's latent; severity, which is the level; and the other trivial
predictors that results hold.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from pandas import DataFrame

from studies._rows import has_column, require_axes
from studies._trivial import TRIVIAL
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.reporting import readable

TRAINED_ON, TRAINED_NOISE = "severity_encoder.degradation.kind", "severity_encoder.degradation.noise_std"
MEMBER, LEVEL, NOISE = "degradation.member.kind", "degradation.severity", "degradation.noise_std"
COLUMNS = {
    TRAINED_ON: "encoder", TRAINED_NOISE: "trained noise", MEMBER: "degradation", LEVEL: "level", NOISE: "noise"
}  # fmt: skip
"""The axes that the report knows, by their columns in the results."""
UNIVERSAL = "mixture"
Series = Mapping[str, DataFrame]


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


def ratio(series: Series) -> DataFrame:
    """True over predicted variance: one row per image, one column per level."""
    return series["s2"] / series["var_hat"]


def views(series: Mapping[Key, Series]) -> dict[str, dict[str, Series]]:
    """Series that stand side by side, by what they have in common and then by what they differ in.

    An encoder over noises, and encoders as they were trained; by itself where there is but one.
    """
    found: dict[str, dict[str, Series]] = defaultdict(dict)
    for key, one in sorted(series.items(), key=lambda item: float(item[0].noise)):
        found[f"{key.encoder_name}, on {readable(key.degradation)}"][f"noise {key.noise}"] = one
    for key, one in series.items():
        if key.is_matched:
            found["encoders tested as they were trained"][f"{readable(key.degradation)}, noise {key.noise}"] = one
    return {title: view for title, view in found.items() if len(view) > 1} or found


def read(results: StudyResults) -> dict[Key, Series]:
    """Every series of the results.

    Raises:
        UserError: for results with other axes of several values, or levels of different images.
    """
    require_axes(results, COLUMNS.values(), alone=True)
    columns = [COLUMNS[axis] for axis in (TRAINED_ON, TRAINED_NOISE, MEMBER, NOISE)]
    frame = results.frame.astype({"level": float})
    frame["severity"] = frame["level"]
    found: dict[Key, Series] = {}
    for key, rows in frame.groupby(columns, observed=True, sort=False):
        names = ["var_hat", "s2", *(name for name in TRIVIAL if has_column(rows, name))]
        series = {name: rows.pivot(index="image_id", columns="level", values=name) for name in names}
        if series["var_hat"].isna().to_numpy().any():
            raise UserError("levels of one series were tested on different images; run the study again")
        found[Key(*map(str, key))] = series
    return found
