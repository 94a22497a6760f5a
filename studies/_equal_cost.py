"""What is adapting to each image worth? A matched start beside controls of equal mean FLOPs.

See `workbench.severity.start.equal_cost`: a control begins alike for all images, or with the variance of another image,
or of the true severity. Adapting is worth what the matched start gains over the best of these. The best is chosen by
its PSNR on the test images, which favours the control. The known severity is more than a user has: on a degradation
that the encoder was not trained on, it also knows the true error there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from studies._rows import ABSENT, difference, over_images
from workbench.metrics import Estimate, mean_interval, ratio_of_means
from workbench.reporting import Section, html_table, number, paragraph, spoken
from workbench.severity.start import NAMES, Control, EqualCost, SNRMatch

if TYPE_CHECKING:
    from pandas import DataFrame, Series

BLIND: Sequence[Control] = ("timestep", "permuted", "known_severity")
"""Controls that do not look at the image's own variance."""
ATTAINABLE: Sequence[Control] = ("timestep", "permuted")
"""Those of them that need no truth."""
LABELS = tuple(NAMES.values())
"""As an axis names the controls."""


UNEQUAL = 1.15
"""By what factor mean FLOPs may differ before it is said."""


def controls_of(rule: SNRMatch, num_val_images: int = 128) -> tuple[EqualCost, ...]:
    """All controls of a matched start."""
    return tuple(EqualCost(control=control, of=rule, num_val_images=num_val_images) for control in NAMES)


@dataclass(frozen=True)
class Comparison:
    """One matched start beside its controls, on the same images.

    Attributes:
        name: of the pair of encoder or solver, and degradation.
        matched: its rows, indexed by image id.
        controls: those of each control.
    """

    name: str
    matched: "DataFrame"
    controls: "Mapping[Control, DataFrame]"

    def gain(self, control: Control, column: str = "psnr") -> "Series":
        """Of the matched start over a control, image by image."""
        return difference(self.matched, self.controls[control], column, f"{self.name}: a start and its control")

    def best(self, among: Sequence[Control] = BLIND) -> Control | None:
        """The best of some controls; None where one is missing."""
        if any(control not in self.controls for control in among):
            return None
        return max(among, key=lambda control: float(self.controls[control]["psnr"].mean()))

    def worth(self, among: Sequence[Control] = BLIND) -> "Series | None":
        """What adapting is worth, dB of PSNR over the best of some controls, image by image."""
        return None if (best := self.best(among)) is None else self.gain(best)

    def cost(self, control: Control, column: str) -> Estimate:
        """The control's over the matched start's."""
        return ratio_of_means(self.controls[control][column], self.matched[column])


def worth_of(comparisons: "Sequence[Comparison]", among: Sequence[Control] = BLIND) -> Estimate:
    """What adapting is worth over all pairs, dB: images are resampled, the same ones in every pair."""
    found = [worth for comparison in comparisons if (worth := comparison.worth(among)) is not None]
    return mean_interval(over_images(found)) if found else ABSENT


def sentence(comparisons: Sequence[Comparison]) -> str:
    """What adapting is worth, in words; empty without controls."""
    told = [comparison for comparison in comparisons if comparison.worth() is not None]
    if not told:
        return ""
    worth = worth_of(told)
    noise = mean_interval(over_images([c.gain("timestep") - c.gain("missing_noise") for c in told]))
    verdict = "gains" if worth.low > 0 else "loses" if worth.high < 0 else "gains nothing that can be measured:"
    shown = worth.scaled(-1) if worth.high < 0 else worth
    pairs = "pair" if len(told) == 1 else "pairs"
    ratios = [c.cost(control, "flops").mean for c in told for control in c.controls]
    unequal = max(ratios) > UNEQUAL or min(ratios) < 1 / UNEQUAL
    caution = (
        f" Costs are not equal: controls spend {number(min(ratios), 2)} to {number(max(ratios), 2)} times as much."
    )
    return (
        f"adapting to each image, at equal mean FLOPs, {verdict} {spoken(shown, 2)} dB over the best control, known "
        f"severity included ({len(told)} {pairs}), and {spoken(worth_of(told, ATTAINABLE), 2)} dB over the better of "
        "one timestep and permuted variances; adding only the noise that is missing, from one timestep, is worth "
        f"{spoken(noise, 2)} dB.{caution if unequal else ''}"
    )


def section(comparisons: Sequence[Comparison], sentences: Sequence[str]) -> Section:
    """Gains over each control, and what it costs."""
    import pandas as pd

    rows = {}
    for comparison in comparisons:
        row: dict[str, object] = {"matched, PSNR": mean_interval(comparison.matched["psnr"])}
        for control, name in NAMES.items():
            there = control in comparison.controls
            row[f"over {name}"] = mean_interval(comparison.gain(control)) if there else ABSENT
        worth = comparison.worth()
        row["adapting is worth"] = ABSENT if worth is None else mean_interval(worth)
        ratios = [comparison.cost(control, "flops").mean for control in comparison.controls]
        row["FLOPs of controls / matched"] = f"{number(min(ratios), 2)} to {number(max(ratios), 2)}"
        rows[comparison.name] = row
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("pair")
    text = Markup().join(paragraph(said) for said in sentences) + paragraph(
        "Each control spends as many FLOPs on an image, on average, as the matched start, encoder, decoder and probes "
        "of the residual included, to the nearest step. "
        f"{NAMES['timestep'].capitalize()}: all images begin alike, with the noise of CCDF. "
        f"{NAMES['missing_noise'].capitalize()}: the same, but each image gets only the noise that it lacks. "
        f"{NAMES['permuted'].capitalize()}: each image begins where another should. "
        f"{NAMES['known_severity'].capitalize()}: each begins where images of its true severity should on average, "
        "which only a study knows; the average is that of validation images, of the true error, so that it is right "
        "where the encoder is not. Adapting is worth the gain over the best of the first, the third and the fourth; "
        "which is best is read from these very images, in the controls' favour. Intervals are over images, not pairs."
    )
    caption = "PSNR gained by the matched start, dB, image by image"
    return Section("What is adapting to each image worth?", text + html_table(table, 2, caption))
