"""What is adapting to each image worth? A matched start beside controls of equal mean FLOPs.

See `workbench.severity.start.equal_cost`: a control begins alike for all images, or with the variance of another image,
or of the true severity. Adapting is worth what the matched start gains over the best of these. The best is chosen by
its PSNR on the test images, which favours the control. The known severity is more than a user has: on a degradation
that the encoder was not trained on, it also knows the true error there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from studies._rows import ABSENT, difference, over_images, table
from workbench.metrics import Estimate, mean_interval, ratio_of_means
from workbench.reporting import Section, Words, ranged
from workbench.severity.start import CONTROL_NAMES, Control, EqualCost, SNRMatch

if TYPE_CHECKING:
    from pandas import DataFrame, Series

BLIND: Sequence[Control] = ("timestep", "permuted", "known_severity")
"""Controls that do not look at the image's own variance."""
ATTAINABLE: Sequence[Control] = ("timestep", "permuted")
"""Those of them that need no truth."""
LABELS = tuple(CONTROL_NAMES.values())
"""As an axis names the controls."""
UNEQUAL = 1.15
"""By what factor mean FLOPs may differ to count as equal."""
WORDS = Words(Path(__file__).with_name("_templates"))


def controls_of(rule: SNRMatch, num_val_images: int = 128) -> tuple[EqualCost, ...]:
    """All controls of a matched start."""
    return tuple(EqualCost(control=control, of=rule, num_val_images=num_val_images) for control in CONTROL_NAMES)


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


def section(groups: Mapping[str, Sequence[Comparison]]) -> Section:
    """What adapting is worth in each group of pairs, and each pair's gains over each control."""
    worth, gains = {}, {}
    for group, comparisons in groups.items():
        told = [comparison for comparison in comparisons if comparison.worth() is not None]
        if told:
            noise = over_images([c.gain("timestep") - c.gain("missing_noise") for c in told])
            worth[group] = {
                "over the best control": worth_of(told),
                "over the better that needs no truth": worth_of(told, ATTAINABLE),
                "the missing noise alone": mean_interval(noise),
                "pairs": str(len(told)),
            }
        for comparison in comparisons:
            ratios = [comparison.cost(control, "flops").mean for control in comparison.controls]
            own = comparison.worth()
            gains[comparison.name] = {
                "matched, PSNR": mean_interval(comparison.matched["psnr"]),
                **{
                    f"over {name}": mean_interval(comparison.gain(control))
                    if control in comparison.controls
                    else ABSENT
                    for control, name in CONTROL_NAMES.items()
                },
                "adapting is worth": ABSENT if own is None else mean_interval(own),
                "FLOPs of controls / matched": ranged(ratios, 2),
                "equal": "yes" if max(ratios) <= UNEQUAL and min(ratios) >= 1 / UNEQUAL else "no",
            }
    shown = table(worth, "pairs of", caption="What adapting is worth, dB of PSNR") if worth else Markup()
    caption = "PSNR gained by the matched start, dB, image by image"
    return WORDS.section("equal_cost", names=CONTROL_NAMES, worth=shown, gains=table(gains, "pair", caption=caption))
