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

from studies._rows import difference, mean_over, table
from workbench.metrics import Estimate, mean_interval
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
WORDS = Words(Path(__file__).with_name("_templates"))


def controls_of(rule: SNRMatch, num_val_images: int = 128) -> tuple[EqualCost, ...]:
    """All controls of a matched start."""
    return tuple(EqualCost(control=control, of=rule, num_val_images=num_val_images) for control in CONTROL_NAMES)


@dataclass(frozen=True)
class Comparison:
    """A matched start's rows beside those of its controls, on the same images, by image id; `name` is the pair's."""

    name: str
    matched: "DataFrame"
    controls: "Mapping[Control, DataFrame]"

    def gain(self, control: Control) -> "Series":
        """PSNR of the matched start above a control's, image by image."""
        return difference(self.matched, self.controls[control], "psnr", f"{self.name}: a start and its control")

    @property
    def costs(self) -> list[float]:
        """Mean FLOPs of each control over the matched start's; 1 as the controls mean it."""
        return [float(rows["flops"].mean() / self.matched["flops"].mean()) for rows in self.controls.values()]

    def worth(self, among: Sequence[Control] = BLIND) -> "Series | None":
        """What adapting is worth, dB of PSNR over the best of some controls, image by image; None where one lacks."""
        if not self.controls.keys() >= set(among):
            return None
        return self.gain(max(among, key=lambda control: float(self.controls[control]["psnr"].mean())))


def worth_of(comparisons: "Sequence[Comparison]", among: Sequence[Control] = BLIND) -> Estimate:
    """What adapting is worth over all pairs, dB: images are resampled, the same ones in every pair."""
    return mean_over(comparison.worth(among) for comparison in comparisons)


def section(groups: Mapping[str, Sequence[Comparison]]) -> Section:
    """What adapting is worth in each group of pairs, and each pair's gains over each control."""
    worth = {
        group: {
            "over the best control": worth_of(told),
            "over the better that needs no truth": worth_of(told, ATTAINABLE),
            "the missing noise alone": mean_over(c.gain("timestep") - c.gain("missing_noise") for c in told),
            "pairs": str(len(told)),
        }
        for group, comparisons in groups.items()
        if (told := [comparison for comparison in comparisons if comparison.worth() is not None])
    }
    gains = {
        c.name: {
            "matched, PSNR": mean_interval(c.matched["psnr"]),
            **{f"over {CONTROL_NAMES[control]}": mean_interval(c.gain(control)) for control in c.controls},
            "adapting is worth": mean_over([c.worth()]),
            "FLOPs of controls / matched": ranged(c.costs, 2),
        }
        for comparisons in groups.values()
        for c in comparisons
    }
    return WORDS.section(
        "equal_cost",
        names=CONTROL_NAMES,
        worth=table(worth, "pairs of", caption="What adapting is worth, dB of PSNR") if worth else "",
        gains=table(gains, "pair", caption="PSNR gained by the matched start, dB, image by image"),
    )
