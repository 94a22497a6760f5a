"""The opening of a report: a strip of images, one main figure, and the answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from workbench.reporting.figures import png, svg
from workbench.reporting.formats import number
from workbench.reporting.labels import capital, described_images, readable
from workbench.reporting.pictures import Card, Picture, examples

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import Series

    from workbench.experiments.results import StudyResults

STAGES = {
    "degraded": ("degraded", "psnr_degraded"),
    "decoded": ("decoded", "psnr_decoded"),
    "restored": ("restored", "psnr"),
    "clean": ("truth", ""),
}
"""Arrays of a cell's examples in display order: the name for readers, and the column of PSNR."""
NUM_IMAGES = 3


@dataclass(frozen=True)
class MainFigure:
    """The first figure of a report; also logged to W&B as an image.

    Attributes:
        figure: from `workbench.reporting.figures`, `curves` or `maps`.
        description: alternative text for readers who cannot see it; by default the figure's own.
        caption: a line below it: what is shown, and how to read it.
    """

    figure: "Figure"
    description: str = ""
    caption: str = ""

    def html(self) -> Markup:
        """HTML for the report."""
        caption = Markup('<p class="note">{}</p>').format(self.caption) if self.caption else Markup()
        return svg(self.figure, self.description) + caption

    def png(self) -> bytes:
        """PNG for places that cannot show HTML."""
        return png(self.figure)


def picture_strip(results: "StudyResults", cell: str | None = None, num_images: int = NUM_IMAGES) -> Markup:
    """Images of one cell from degraded to clean, from the lowest to the highest severity among stored images.

    Args:
        cell: identity of the cell; by default the first with stored images. Empty if there is none.
    """
    kept = [cell] if cell is not None else list(dict.fromkeys(map(str, results.frame["cell"])))
    chosen = next((name for name in kept if _is_shown(results.examples.get(name, {}))), None)
    if chosen is None:
        return Markup()
    pictures = results.examples[chosen]
    rows = results.frame[results.frame["cell"] == chosen].set_index("image_id")
    places = [place for place, image in enumerate(pictures["image_id"].tolist()) if image in rows.index]
    if not places:
        return Markup()
    images = pictures["image_id"].tolist()
    ordered = sorted(places, key=lambda i: float(rows["severity"][images[i]])) if "severity" in rows else places
    spread = dict.fromkeys(ordered[round(i)] for i in np.linspace(0, len(ordered) - 1, num_images))
    cards = [_card(pictures, place, rows.loc[images[place]]) for place in spread]
    labels = ", ".join(f"{readable(axis)} {readable(str(rows[axis].iloc[0]))}" for axis in results.axes if axis in rows)
    note = ". ".join(part for part in (capital(described_images(results)), labels) if part)
    note = f"{note}. " if note else ""
    return examples(cards) + Markup('<p class="note">{}Figures under images are PSNR in dB.</p>').format(note)


def _is_shown(pictures: "Mapping[str, np.ndarray]") -> bool:
    """Whether a cell has the images of a strip, in greyscale or colour."""
    needed = [pictures.get(name) for name in ("degraded", "restored", "clean", "image_id")]
    if any(array is None or not len(array) for array in needed):
        return False
    return pictures["clean"].shape[-1] in (1, 3) and pictures["degraded"].shape[-1] in (1, 3)


def _card(pictures: "Mapping[str, np.ndarray]", place: int, row: "Series") -> Card:
    shown = []
    for name, (title, column) in STAGES.items():
        if name in pictures:
            figure = f" {number(float(row[column]), 1)}" if column in row else ""
            shown.append(Picture(pictures[name][place], (f"{title}{figure}",)))
    facts = [f"severity {number(float(row['severity']), 2)}"] if "severity" in row else []
    facts += [f"{number(float(row['nfe']), 0)} NFE"] if "nfe" in row else []
    return Card(shown, len(shown), (", ".join(facts),) if facts else ())
