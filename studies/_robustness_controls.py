"""The robustness study's corrected starts beside controls of equal mean cost."""

from typing import TYPE_CHECKING

from studies import _equal_cost
from studies._equal_cost import Comparison
from studies._robustness_grid import VARIANCE, read_grid
from workbench.reporting import Section, readable, spoken
from workbench.severity.start import NAMES

if TYPE_CHECKING:
    from workbench.results import StudyResults

MATCHED = "fused"


def comparisons(results: "StudyResults") -> list[Comparison]:
    """Each pair of encoder and degradation that has controls: matched encoders first."""
    labels = results.axes.get(VARIANCE, [])
    if MATCHED not in labels or not any(name in labels for name in NAMES.values()):
        return []
    matched = read_grid(results, MATCHED)
    controls = {control: read_grid(results, name) for control, name in NAMES.items() if name in labels}
    found = []
    for (encoder, degradation), rows in matched.frames.items():
        mine = {
            c: grid.frames[encoder, degradation]
            for c, grid in controls.items()
            if (encoder, degradation) in grid.frames
        }
        if mine:
            by = "" if encoder == degradation else f" by the {readable(encoder)} encoder"
            found.append(Comparison(f"{readable(degradation)}{by}", rows, mine))
    return sorted(found, key=lambda comparison: " by the " in comparison.name)


def groups(results: "StudyResults") -> dict[str, list[Comparison]]:
    """The comparisons of matched encoders, and those of mismatched ones."""
    found = comparisons(results)
    mismatched = [comparison for comparison in found if " by the " in comparison.name]
    by_group = {"matched": [c for c in found if c not in mismatched], "mismatched": mismatched}
    return {name: group for name, group in by_group.items() if group}


def sentences(results: "StudyResults") -> list[str]:
    """What adapting is worth with encoders that know the degradation, and with others."""
    worth = {name: _equal_cost.worth_of(group) for name, group in groups(results).items()}
    return [
        f"With {name} encoders, adapting to each image at equal mean FLOPs is worth {spoken(one, 2)} dB over the best "
        "control."
        for name, one in worth.items()
        if one.num_images
    ]


def controls_section(results: "StudyResults") -> Section | None:
    """Gains over each control."""
    found = groups(results)
    return _equal_cost.section(found) if found else None
