"""Rows of the solvers study as runs: one solver on one degradation from one start on one grid, one row per image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from studies._equal_cost import Comparison
from studies._rows import has_column, intervals, log_crossing, lost, put
from workbench.config import UserError
from workbench.metrics import Estimate, ratio_of_means
from workbench.reporting import QUANTITIES, readable
from workbench.severity.start import CONTROL_NAMES, Control

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

AXES = ("solver", "degradation", "start", "timestep", "num_steps", "eta")
CONTROL = "control"
"""An axis of results that hold controls of the SNR-matched start."""
DECODED = "decode_only"
LONG, FEW = "ldps", "ldps_few"
FULL, FIXED, OFFICIAL, MATCHED, EQUAL_COST = "full", "fixed", "official", "snr_match", "equal_cost"
STARTS = {FULL: "pure noise", FIXED: "fixed (CCDF)", OFFICIAL: "official", MATCHED: "SNR match"}
FEWER_NFE, LESS_TIME = 10, 7
"""What the claim asks for: how many times fewer network evaluations, how many times less time."""
TOLERANCE = 0.02
"""Difference in mean validation PSNR between runs that does not count, dB: that of the search for a step size."""
MARGINS = {"psnr": 0.1, "ssim": 0.005, "ssim_valid": 0.005, "lpips": 0.01}
"""Qualities, and the losses of them that count: an interval must exclude these before "no worse" is said."""
COSTS = ("nfe", "decoder_evals", "encoder_evals", "flops", "seconds")
"""What a restoration costs: a claim about one of them says nothing of the others."""


@dataclass(frozen=True)
class Run:
    """One cell; its rows are indexed by image id, in its order. `control` is empty but for a start of equal cost."""

    solver: str
    degradation: str
    start: str
    timestep: str
    num_steps: int
    eta: float
    rows: "DataFrame"
    control: Control | Literal[""] = ""

    @property
    def kind(self) -> str:
        """The start in words, and DDPM where the reverse step draws noise as it does."""
        if self.control:
            return f"control: {CONTROL_NAMES[self.control]}"
        return STARTS.get(self.start, self.start) + (", DDPM" if self.eta == 1 else "")

    @property
    def name(self) -> str:
        """The start and its grid in words."""
        if self.solver == DECODED:
            return "decoded, no diffusion"
        at = f" at {self.timestep}" if self.start == FIXED else ""
        return f"{self.kind}{at}, {self.num_steps} steps"

    @property
    def at_edge(self) -> bool:
        """Whether the step size that was chosen is still at an end of what was tried."""
        return "at_edge" in self.rows and bool(self.rows["at_edge"].any())

    @cached_property
    def nfe(self) -> float:
        """Mean network evaluations of an image."""
        return self.mean("nfe")

    @cached_property
    def val_psnr(self) -> float:
        """Mean PSNR on validation images, dB; -inf for runs that were not tuned."""
        score = float(self.rows["val_psnr"].iloc[0]) if "val_psnr" in self.rows else math.nan
        return -math.inf if math.isnan(score) else score

    def mean(self, column: str) -> float:
        """In the unit that is shown."""
        return float(self.rows[column].mean()) * QUANTITIES[column].scale

    def gain(self, over: "Run", quality: str = "psnr") -> "Series":
        """By how much this run is better, image by image; for LPIPS that is lower.

        Raises:
            UserError: if the runs are of different images.
        """
        return -lost(self.rows, over.rows, quality, f"two runs on {self.degradation}")

    def gains(self, over: "Run") -> dict[str, Estimate]:
        """In each quality that both runs have."""
        shared = [q for q in MARGINS if has_column(self.rows, q) and has_column(over.rows, q)]
        return dict(zip(shared, intervals([self.gain(over, quality) for quality in shared]), strict=True))


def best(runs: Sequence[Run]) -> Run | None:
    """The best on validation images; of those that are as good, up to TOLERANCE, the cheapest. None of none."""
    highest = max((run.val_psnr for run in runs), default=0.0)
    return min((run for run in runs if run.val_psnr >= highest - TOLERANCE), key=lambda run: run.nfe, default=None)


@dataclass(frozen=True)
class Claim:
    """The SNR-matched run against the same solver from pure noise, image by image.

    Attributes:
        gains: by quality, how much better the SNR-matched run is.
        savings: by cost that both runs know, the baseline's mean over the SNR-matched run's.
    """

    baseline: Run
    flash: Run
    gains: Mapping[str, Estimate]
    savings: Mapping[str, Estimate]

    @property
    def failures(self) -> list[str]:
        """What of the claim does not hold, in words; a quality fails where its whole interval is a loss."""
        below = [q for q, gain in self.gains.items() if (gain.mean if math.isnan(gain.high) else gain.high) < 0]
        failed = [f"{QUANTITIES[q].label} is {'higher' if q == 'lpips' else 'lower'}" for q in below]
        if self.savings["nfe"].mean < FEWER_NFE:
            failed.append(f"NFE are not {FEWER_NFE} times fewer")
        if self.savings["seconds"].mean < LESS_TIME:
            failed.append(f"time is not {LESS_TIME} times less")
        return failed

    @property
    def undecided(self) -> list[str]:
        """Why it cannot be told, in words: an interval with both a gain and a loss that counts, or an open search."""
        wide = [q for q, gain in self.gains.items() if gain.low < -MARGINS[q] and gain.high >= 0]
        edges = [run.name for run in (self.baseline, self.flash) if run.at_edge]
        return [f"{QUANTITIES[q].label} from so few images" for q in wide] + [
            f"the best step size of {name} lies at an end of what was tried" for name in edges
        ]

    @property
    def verdict(self) -> str:
        """Whether the claim holds, in words."""
        return "does not hold" if self.failures else "cannot be told" if self.undecided else "holds"


@dataclass(frozen=True)
class Fixed:
    """Starts at one timestep for all images (CCDF), which read no severity, beside the SNR-matched run.

    They were tried at a few timesteps on one grid, each with as many step sizes as any run.

    Attributes:
        best: of those tried the best on validation images.
        near: the one whose mean NFE are nearest to the SNR-matched run's, by their ratio.
        fewer_nfe: mean NFE of the baseline from pure noise over those of `best`.
        over_noise: PSNR of `best` over that baseline.
        gains: by quality, of the SNR-matched run over `best`.
        over_near: PSNR of the SNR-matched run over `near`.
    """

    best: Run
    near: Run
    fewer_nfe: Estimate
    over_noise: Estimate
    gains: Mapping[str, Estimate]
    over_near: Estimate


@dataclass(frozen=True)
class Pair:
    """All runs of a solver on a degradation; `decoded` is the estimate without diffusion. None where runs are missing.

    Raises:
        UserError: of what compares runs, if they are of different images.
    """

    solver: str
    degradation: str
    runs: Sequence[Run]
    decoded: Run | None = None

    @property
    def name(self) -> str:
        return f"{readable(self.solver)} on {readable(self.degradation)}"

    def of(self, start: str) -> list[Run]:
        """The runs from that start, by their network evaluations."""
        return sorted((run for run in self.runs if run.start == start), key=lambda run: run.nfe)

    @cached_property
    def baseline(self) -> Run | None:
        """From pure noise, the best on validation images, on the published grid or a shorter one."""
        return best(self.of(FULL))

    @cached_property
    def flash(self) -> Run | None:
        """The SNR-matched run that is judged: the best on validation images of those cheap enough for the claim.

        The cheapest where none is cheap enough.
        """
        runs = self.of(MATCHED)
        if self.baseline is None or not runs:
            return None
        cheap = [run for run in runs if FEWER_NFE * run.nfe <= self.baseline.nfe]
        return best(cheap) or runs[0]

    @cached_property
    def claim(self) -> Claim | None:
        """The judged run against the baseline."""
        if self.baseline is None or self.flash is None:
            return None
        flash, baseline = self.flash.rows, self.baseline.rows
        shared = [cost for cost in COSTS if has_column(flash, cost) and has_column(baseline, cost)]
        savings = {cost: ratio_of_means(baseline[cost], flash[cost]) for cost in shared}
        return Claim(self.baseline, self.flash, self.flash.gains(self.baseline), savings)

    @cached_property
    def fixed(self) -> Fixed | None:
        """What one timestep for all images does."""
        chosen, flash, baseline = best(self.of(FIXED)), self.flash, self.baseline
        if chosen is None or flash is None or baseline is None:
            return None
        nfe = max(flash.nfe, 1e-9)
        near = min(self.of(FIXED), key=lambda run: abs(math.log(max(run.nfe, 1e-9) / nfe)))
        over_noise, over_near = intervals([chosen.gain(baseline), flash.gain(near)])
        fewer = ratio_of_means(baseline.rows["nfe"], chosen.rows["nfe"])
        return Fixed(chosen, near, fewer, over_noise, flash.gains(chosen), over_near)

    @cached_property
    def decoded_gain(self) -> Estimate | None:
        """PSNR of the decoded estimate over the baseline."""
        if self.decoded is None or self.baseline is None:
            return None
        return intervals([self.decoded.gain(self.baseline)])[0]

    @cached_property
    def comparison(self) -> Comparison | None:
        """The SNR-matched run beside its controls of equal cost, on the same grid."""
        controls = {run.control: run for run in self.of(EQUAL_COST) if run.control}
        grids = {run.num_steps for run in controls.values()}
        matched = next((run for run in self.of(MATCHED) if run.num_steps in grids), None)
        if matched is None:
            return None
        return Comparison(self.name, matched.rows, {control: run.rows for control, run in controls.items()})

    def speed_up(self) -> Estimate | None:
        """How many times its NFE the solver needs from pure noise for the PSNR of the judged run.

        Read where the line through its grids, PSNR against log NFE, first reaches that PSNR. None where none does; an
        interval ends at the longest grid.
        """
        grids = self.of(FULL)
        if self.flash is None or not self.flash.nfe > 0 or not grids:
            return None
        found = log_crossing([run.nfe for run in grids], [run.gain(self.flash) for run in grids])
        return None if found is None else found.scaled(1 / self.flash.nfe)


@dataclass(frozen=True)
class FewSteps:
    """The cheapest SNR-matched run of LDPS that is as good on validation images as the best one.

    Attributes:
        best: of LDPS proper, on validation images.
        cheap: the fewest NFE, of LDPS or LDPS in few steps, within MARGINS of `best` there.
        gain: in PSNR on test images, of `cheap` over `best`.
    """

    best: Run
    cheap: Run
    gain: Estimate


@dataclass(frozen=True)
class Solvers:
    """The whole study.

    Attributes:
        pairs: every solver on every degradation, in the axes' order.
        results: what they were read from: its pictures and provenance.
    """

    pairs: Sequence[Pair]
    results: "StudyResults"

    @property
    def claims(self) -> dict[str, Claim]:
        """By the pair's name, without those that lack a run."""
        return {pair.name: pair.claim for pair in self.pairs if pair.claim is not None}

    @property
    def fixed(self) -> dict[str, Fixed]:
        """By the pair's name, without those that lack a run."""
        return {pair.name: pair.fixed for pair in self.pairs if pair.fixed is not None}

    @property
    def comparisons(self) -> list[Comparison]:
        """Of the pairs that have controls of equal cost."""
        return [pair.comparison for pair in self.pairs if pair.comparison is not None]

    @cached_property
    def few_steps(self) -> dict[str, FewSteps]:
        """By degradation; without those that lack LDPS or LDPS in few steps."""
        matched = {(pair.solver, pair.degradation): pair.of(MATCHED) for pair in self.pairs}
        found = {}
        for degradation in dict.fromkeys(pair.degradation for pair in self.pairs):
            long, few = (matched.get((solver, degradation), []) for solver in (LONG, FEW))
            if long and few:
                top = max(long, key=lambda run: run.val_psnr)
                good = [run for run in (*long, *few) if run.val_psnr >= top.val_psnr - MARGINS["psnr"]]
                cheap = min(good, key=lambda run: run.nfe)
                found[degradation] = FewSteps(top, cheap, intervals([cheap.gain(top)])[0])
        return found


def read(results: "StudyResults") -> Solvers:
    """Every run, in pairs.

    Raises:
        UserError: without one of the axes, or with others of several values that cannot be told apart.
    """
    if lacking := [axis for axis in AXES if axis not in results.axes]:
        raise UserError(f"this report needs the axes {', '.join(AXES)}; the results lack {', '.join(lacking)}")
    controls: dict[str, Control] = {str(name): name for name in CONTROL_NAMES}
    runs: dict[tuple[str, ...], Run] = {}
    for _, rows in results.frame.groupby("cell", sort=False, observed=True):
        key = tuple(str(rows[axis].iloc[0]) for axis in AXES)
        solver, degradation, start, timestep, num_steps, eta = key
        by_image = rows.set_index("image_id").sort_index()
        control = controls[rows[CONTROL].iloc[0]] if start == EQUAL_COST and CONTROL in rows else ""
        run = Run(solver, degradation, start, timestep, int(num_steps), float(eta), by_image, control)
        put(runs, (*key, control), run, ", ".join((*key, control)))
    decoded = {run.degradation: run for run in runs.values() if run.solver == DECODED}
    by_pair: dict[tuple[str, str], list[Run]] = {}
    for run in runs.values():
        if run.solver != DECODED:
            by_pair.setdefault((run.solver, run.degradation), []).append(run)
    return Solvers([Pair(*key, found, decoded.get(key[1])) for key, found in by_pair.items()], results)
