"""The calibration of a severity encoder in its W&B run: figures, a table, and three diagrams as images and charts."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import wandb
from numpy.typing import NDArray
from PIL import Image
from scipy.special import ndtri

from workbench.metrics import Estimate
from workbench.metrics.calibration import ALL, Calibration, from_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = ("ence", "nll", "z2", "ks", "kurtosis")
"""The figures in the run's summary, each as calibration/NAME."""


def log_calibration(run: Any, path: Path) -> None:
    """Log the calibrations stored by a stage: all images in the summary and diagrams, each group in a table.

    Raises:
        ValueError: for a file without calibrations.
    """
    groups = from_json(path.read_text())
    whole = groups[ALL]
    run.summary.update({f"calibration/{name}": whole.figures[name].mean for name in SUMMARY})
    diagrams = {
        "reliability": Diagram.of(whole, "reliability", "Reliability", "predicted error", "true error"),
        "pit": Diagram.of(whole, "pit", "Probability integral transform", "Phi(z)", "density"),
        "qq": Diagram.of(whole, "qq", "Quantiles", "Gaussian quantile", "quantile of z"),
    }
    for name, diagram in diagrams.items():
        run.log(
            {
                f"calibration/{name}": _picture(diagram.figure()),
                f"calibration/{name}_chart": diagram.chart(),
            }
        )
    run.log({"calibration/table": _table(groups)})


@dataclass(frozen=True)
class Diagram:
    """One curve of a calibration.

    Attributes:
        x, estimates: its points.
        ideal: the values for a calibrated prediction.
    """

    title: str
    x_name: str
    y_name: str
    x: NDArray[np.float64]
    estimates: Sequence[Estimate]
    ideal: NDArray[np.float64]

    @classmethod
    def of(cls, found: Calibration, curve: str, title: str, x_name: str, y_name: str) -> Self:
        """A curve by its name: quantiles are plotted over those of a Gaussian, and a calibrated PIT is uniform."""
        drawn = found.curves[curve]
        x = np.asarray(ndtri(drawn.x)) if curve == "qq" else drawn.x
        return cls(title, x_name, y_name, x, drawn.estimates, np.ones_like(x) if curve == "pit" else x)

    def figure(self) -> "Figure":
        """With intervals."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 3.4), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        mean = np.array([value.mean for value in self.estimates])
        ends = [np.array([getattr(value, end) for value in self.estimates]) for end in ("low", "high")]
        axes.plot(self.x, self.ideal, color="0.5", linestyle="--", label="calibrated")
        axes.errorbar(self.x, mean, yerr=np.abs(np.stack(ends) - mean), marker="o", markersize=3, label="measured")
        axes.set(title=self.title, xlabel=self.x_name, ylabel=self.y_name)
        axes.legend()
        return figure

    def chart(self) -> Any:
        """A chart drawn by W&B."""
        mean = [value.mean for value in self.estimates]
        return wandb.plot.line_series(
            xs=self.x.tolist(),
            ys=[mean, self.ideal.tolist()],
            keys=["measured", "calibrated"],
            title=self.title,
            xname=self.x_name,
        )


def _picture(figure: "Figure") -> wandb.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    return wandb.Image(Image.open(buffer))


def _table(groups: Mapping[str, Calibration]) -> wandb.Table:
    """One row per group and figure."""
    rows: list[Iterable[Any]] = [
        [group, name, value.mean, value.low, value.high, found.floors.get(name), found.num_images]
        for group, found in groups.items()
        for name, value in found.figures.items()
    ]
    columns: list[str | int] = ["images", "figure", "value", "low", "high", "by chance", "number of images"]
    return wandb.Table(columns=columns, data=rows)
