"""What does severity encoding cost, beside the reconstruction that it steers?

The paper gives no figure. Here the parts of a restoration are measured alone, for autoencoders tiny, KL and VQ, at
several image sizes, one image at a time and 64 together: the severity encoder, the start rule that corrects it by the
measurement's residual, one reverse step of LDPS with its gradient, and the decoder; time, floating-point operations of
the networks, and peak memory. Weights are random, which does not change a cost. A reconstruction is the start, as many
steps as the default setting takes, and the decoder. How many those are, and how a whole restoration's time is divided,
is measured with the pretrained pair. Expected: encoding is less than a reverse step, and below 2 % of a reconstruction.

On paper (paper): FLOPs, weights and activations of published models at their own size, counted without weights.

Times are of the machine and the number of threads that the page names, and of nothing else running there.

Cost: a quarter of an hour on one core (desk), half a minute (smoke), five minutes (paper).
Run: python -m workbench study overhead
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.overhead import paper, sections
from studies.overhead.paper import PaperScale
from studies.overhead.results import AUTOENCODER, BATCH, SIZE, read
from workbench.autoencoders import KL, VQ, Tiny
from workbench.diffusion.published import PUBLISHED
from workbench.experiments.results import Cell
from workbench.experiments.study import Preset, Study
from workbench.solvers import GMLDPS, LDPS, MMPS, PSLD, LDPSFew, ReSample
from workbench.stages.base import Stage
from workbench.stages.measure.count_cost import CountCost
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.measure_cost import MeasureCost
from workbench.stages.rows import ROWS

SOLVERS = (LDPS(), GMLDPS(), PSLD(), ReSample(), LDPSFew(), MMPS(share=4))
DEFAULT = "restoration"
"""Under which name the evidence holds the default setting's restorations."""


def restoration(cells: Sequence[Cell]) -> dict[str, Stage]:
    """The default setting itself, if its size is among the cells: a cell of the robustness study."""
    default = Evaluate()
    sizes = {cell.stage.image_size for cell in cells if isinstance(cell.stage, MeasureCost)}
    return {DEFAULT: default} if default.data.size in sizes else {}


def evidence(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Evaluations and seconds of each image that was restored at the default setting."""
    import pandas as pd

    rows = pd.read_parquet(folders[DEFAULT] / ROWS)
    return {name: rows[name].tolist() for name in ("nfe", "seconds", "start_seconds")}


study = Study(
    cell=MeasureCost(),
    axes={AUTOENCODER: (Tiny(), KL(), VQ()), SIZE: (32, 64, 128), BATCH: (1, 64)},
    columns={SIZE: "image size", BATCH: "batch"},
    support=restoration,
    evidence=evidence,
    presets={
        "smoke": Preset(overrides={"num_repeats": 2}, axes={AUTOENCODER: (Tiny(), KL()), SIZE: (16,), BATCH: (1, 2)}),
        "desk": Preset(overrides={"num_repeats": 3}),
        "full": Preset(overrides={"num_repeats": 15}),
        "paper": Preset(axes={"model": tuple(PUBLISHED), "solver": SOLVERS}, cell=CountCost()),
    },
    results=lambda found: paper.read(found) if "title" in found.frame else read(found),
    answer=lambda found: paper.answer(found) if isinstance(found, PaperScale) else sections.answer(found),
    main_figure=lambda found: (
        paper.main_figure(found) if isinstance(found, PaperScale) else sections.main_figure(found)
    ),
    report=(
        lambda found: paper.costs_section(found) if isinstance(found, PaperScale) else None,
        lambda found: None if isinstance(found, PaperScale) else sections.share_section(found),
        lambda found: None if isinstance(found, PaperScale) else sections.parts_section(found),
    ),
)
