"""The solvers study's results as runs: one solver on one degradation from one start on one grid, one row per image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from studies._equal_cost import Comparison
from studies._rows import ABSENT, has_column, lost, put
from workbench.config import UserError
from workbench.metrics import Estimate, mean_interval, ratio_of_means, statistics
from workbench.reporting import QUANTITIES
from workbench.severity.start import NAMES, Control

if TYPE_CHECKING:
    from pandas import DataFrame

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
            return f"control: {NAMES[self.control]}"
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

    @property
    def nfe(self) -> float:
        return float(self.rows["nfe"].mean())

    @property
    def val_psnr(self) -> float:
        """Mean PSNR on validation images, dB; -inf for runs that were not tuned."""
        score = float(self.rows["val_psnr"].iloc[0]) if "val_psnr" in self.rows else math.nan
        return -math.inf if math.isnan(score) else score


@dataclass(frozen=True)
class Pair:
    """All runs of a solver on a degradation."""

    solver: str
    degradation: str
    runs: Sequence[Run]

    def of(self, start: str) -> list[Run]:
        """The runs from that start, by their network evaluations."""
        return sorted((run for run in self.runs if run.start == start), key=lambda run: run.nfe)

    @property
    def baseline(self) -> Run | None:
        """From pure noise, the best on validation images, on the published grid or a shorter one."""
        return best(self.of(FULL))

    @property
    def flash(self) -> Run | None:
        """The SNR-matched run that is judged: the best on validation images of those cheap enough for the claim.

        The cheapest where none is cheap enough.
        """
        runs = self.of(MATCHED)
        if self.baseline is None or not runs:
            return None
        cheap = [run for run in runs if FEWER_NFE * run.nfe <= self.baseline.nfe]
        return best(cheap) or runs[0]


def best(runs: Sequence[Run]) -> Run | None:
    """The best on validation images; of those that are as good, up to TOLERANCE, the cheapest. None of none."""
    highest = max((run.val_psnr for run in runs), default=0.0)
    return min((run for run in runs if run.val_psnr >= highest - TOLERANCE), key=lambda run: run.nfe, default=None)


@dataclass(frozen=True)
class Claim:
    """The SNR-matched run against the same solver from pure noise, image by image.

    Attributes:
        gains: by quality, how much better the SNR-matched run is; LPIPS only where both have it.
        fewer_nfe, less_time: mean NFE and seconds of the baseline over those of the run.
    """

    baseline: Run
    flash: Run
    gains: dict[str, Estimate]
    fewer_nfe: Estimate
    less_time: Estimate

    @property
    def failures(self) -> list[str]:
        """What of the claim does not hold, in words; a quality fails where its whole interval is a loss."""
        failed = [f"{QUANTITIES[name].label} is lower" if name != "lpips" else "LPIPS is higher" for name in self.below]
        if self.fewer_nfe.mean < FEWER_NFE:
            failed.append(f"NFE are not {FEWER_NFE} times fewer")
        if self.less_time.mean < LESS_TIME:
            failed.append(f"time is not {LESS_TIME} times less")
        return failed

    @property
    def undecided(self) -> list[str]:
        """Why it cannot be told, in words: an interval with both a gain and a loss that counts, or an open search."""
        known = {name: gain for name, gain in self.gains.items() if not math.isnan(gain.low)}
        open_ = [name for name, gain in known.items() if gain.low < -MARGINS[name] and gain.high >= 0]
        return [f"{QUANTITIES[name].label} from so few images" for name in open_] + [
            f"the best step size of {run.name} lies at an end of what was tried"
            for run in (self.baseline, self.flash)
            if run.at_edge
        ]

    @property
    def verdict(self) -> str:
        """Whether the claim holds, in words."""
        if self.failures:
            return "does not hold"
        return "cannot be told" if self.undecided else "holds"

    @property
    def below(self) -> list[str]:
        """The qualities that were lost measurably."""
        return [name for name, gain in self.gains.items() if (gain.mean if math.isnan(gain.high) else gain.high) < 0]


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


def few_steps(pairs: Sequence[Pair]) -> dict[str, FewSteps]:
    """By degradation; without those that lack either solver.

    Raises:
        UserError: if runs are of different images.
    """
    found = {}
    by_key = {(pair.solver, pair.degradation): pair.of(MATCHED) for pair in pairs}
    for (solver, degradation), long in by_key.items():
        few = by_key.get((FEW, degradation), [])
        if solver != LONG or not long or not few:
            continue
        best = max(long, key=lambda run: run.val_psnr)
        good = [run for run in (*long, *few) if run.val_psnr >= best.val_psnr - MARGINS["psnr"]]
        cheap = min(good, key=lambda run: run.nfe)
        gain = -lost(cheap.rows, best.rows, "psnr", f"runs on {degradation}")
        found[degradation] = FewSteps(best, cheap, mean_interval(gain))
    return found


def read_pairs(results: "StudyResults") -> list[Pair]:
    """Every solver on every degradation, in the axes' order.

    Raises:
        UserError: without one of the axes, or with others of several values that cannot be told apart.
    """
    runs = read_runs(results)
    keys = dict.fromkeys((run.solver, run.degradation) for run in runs if run.solver != DECODED)
    return [Pair(*key, [run for run in runs if (run.solver, run.degradation) == key]) for key in keys]


def read_runs(results: "StudyResults") -> list[Run]:
    """Every cell.

    Raises:
        UserError: as `read_pairs`.
    """
    if lacking := [axis for axis in AXES if axis not in results.axes]:
        raise UserError(f"this report needs the axes {', '.join(AXES)}; the results lack {', '.join(lacking)}")
    runs: dict[tuple[str, ...], Run] = {}
    for _, rows in results.frame.groupby("cell", sort=False):
        key = tuple(str(rows[axis].iloc[0]) for axis in AXES)
        solver, degradation, start, timestep, num_steps, eta = key
        by_image = rows.set_index("image_id").sort_index()
        controls: dict[str, Control] = {str(name): name for name in NAMES}
        control = controls[rows[CONTROL].iloc[0]] if start == EQUAL_COST and CONTROL in rows else ""
        run = Run(solver, degradation, start, timestep, int(num_steps), float(eta), by_image, control)
        put(runs, (*key, control), run, ", ".join((*key, control)))
    return list(runs.values())


def comparison_of(pair: Pair) -> Comparison | None:
    """The SNR-matched run beside its controls on the same grid; None where there are none."""
    controls = {run.control: run for run in pair.of(EQUAL_COST) if run.control}
    matched = next((run for run in pair.of(MATCHED) for c in controls.values() if run.num_steps == c.num_steps), None)
    if matched is None:
        return None
    name = f"{pair.solver} on {pair.degradation}"
    return Comparison(name, matched.rows, {control: run.rows for control, run in controls.items()})


def claim_of(pair: Pair) -> Claim | None:
    """The pair's runs compared; None where it lacks one of them.

    Raises:
        UserError: if they are of different images.
    """
    baseline, flash = pair.baseline, pair.flash
    if baseline is None or flash is None:
        return None
    shared = [q for q in MARGINS if has_column(baseline.rows, q) and has_column(flash.rows, q)]
    names = f"{pair.solver} on {pair.degradation}: two runs"
    gains = {q: mean_interval(-lost(flash.rows, baseline.rows, q, names)) for q in shared}
    ratios = (ratio_of_means(baseline.rows[column], flash.rows[column]) for column in ("nfe", "seconds"))
    return Claim(baseline, flash, gains, *ratios)


COSTS = ("nfe", "decoder_evals", "encoder_evals", "flops", "seconds")
"""What a restoration costs: a claim about one of them says nothing of the others."""


def savings(claim: Claim) -> dict[str, Estimate]:
    """By cost that both runs know: the baseline's mean over the SNR-matched run's."""
    runs = (claim.baseline.rows, claim.flash.rows)
    shared = [column for column in COSTS if all(has_column(rows, column) for rows in runs)]
    return {column: ratio_of_means(*(rows[column] for rows in runs)) for column in shared}


@dataclass(frozen=True)
class Baselines:
    """What reads no severity, and what the SNR-matched run is worth beside it. PSNR in dB, image by image.

    Fixed starts were tried at a few timesteps on one grid, each with as many step sizes as any run.

    Attributes:
        fixed: one timestep for all images (CCDF), of those tried the best on validation images.
        near: the fixed start whose mean NFE are nearest to the SNR-matched run's, by their ratio.
        fixed_gain: of `fixed` over the baseline from pure noise.
        fewer_nfe: mean NFE of the baseline over those of `fixed`.
        gains: by quality, of the SNR-matched run over `fixed`.
        near_gain: of the SNR-matched run over `near`.
        decoded_gain: of the decoded estimate, without diffusion, over the baseline; absent without such results.
    """

    claim: Claim
    fixed: Run
    near: Run
    fixed_gain: Estimate
    fewer_nfe: Estimate
    gains: dict[str, Estimate]
    near_gain: Estimate
    decoded_gain: Estimate


def baselines_of(pair: Pair, decoded: Run | None) -> Baselines | None:
    """The pair's controls; None where it has no claim or no fixed start.

    Raises:
        UserError: if they are of different images.
    """
    claim, fixed = claim_of(pair), best(pair.of(FIXED))
    if claim is None or fixed is None:
        return None
    flash, baseline = claim.flash, claim.baseline
    names = f"{pair.solver} on {pair.degradation}: two runs"

    def gain(run: Run, over: Run, quality: str = "psnr") -> Estimate:
        return mean_interval(-lost(run.rows, over.rows, quality, names))

    near = min(pair.of(FIXED), key=lambda run: abs(math.log(max(run.nfe, 1e-9) / max(flash.nfe, 1e-9))))
    return Baselines(
        claim,
        fixed,
        near,
        gain(fixed, baseline),
        ratio_of_means(baseline.rows["nfe"], fixed.rows["nfe"]),
        {q: gain(flash, fixed, q) for q in MARGINS if has_column(flash.rows, q) and has_column(fixed.rows, q)},
        gain(flash, near),
        ABSENT if decoded is None else gain(decoded, baseline),
    )


def baselines(results: "StudyResults") -> list[tuple[Pair, Baselines]]:
    """Every pair that has both a claim and a fixed start, in the axes' order.

    Raises:
        UserError: as `read_pairs`, or if runs are of different images.
    """
    decoded = {run.degradation: run for run in read_runs(results) if run.solver == DECODED}
    found = [(pair, baselines_of(pair, decoded.get(pair.degradation))) for pair in read_pairs(results)]
    return [(pair, control) for pair, control in found if control is not None]


def speed_up(pair: Pair) -> Estimate | None:
    """How many times more NFE the solver from pure noise needs for the PSNR of the SNR-matched run.

    Its NFE are read from the line through its grids, PSNR against log NFE, where it first reaches that PSNR; never:
    infinite. The interval resamples images, the same ones for every run. None where runs are missing.

    Raises:
        UserError: if runs are of different images.
    """
    flash, grids = pair.flash, pair.of(FULL)
    if flash is None or not grids:
        return None
    psnr = np.stack([-lost(run.rows, flash.rows, "psnr", f"runs of {pair.solver}").to_numpy() for run in grids])
    baseline_nfe = np.array([run.nfe for run in grids])
    nfe = flash.rows["nfe"].to_numpy(dtype=float)
    if not nfe.mean() > 0:
        return None
    found = nfe_to_reach(baseline_nfe, psnr.mean(1)) / float(nfe.mean())
    num_images = len(nfe)
    if num_images < 2:
        return Estimate(found, math.nan, math.nan, num_images)
    drawn = np.random.default_rng(0).integers(num_images, size=(statistics.NUM_RESAMPLES, num_images))
    means = psnr[:, drawn].mean(2).T
    resampled = [
        nfe_to_reach(baseline_nfe, gain) / cost for gain, cost in zip(means, nfe[drawn].mean(1), strict=True) if cost
    ]
    tail = (1 - statistics.CONFIDENCE) / 2
    # no interpolation: between a number and infinity there is nothing
    low, high = np.quantile(resampled, [tail, 1 - tail], method="nearest")
    return Estimate(found, float(low), float(high), num_images)


def nfe_to_reach(nfe: NDArray[np.float64], gain: NDArray[np.float64]) -> float:
    """The fewest NFE at which the line through (log NFE, gain) is at 0 or above; infinite where it never is.

    Args:
        nfe: ascending.
        gain: over what is to be reached, dB.
    """
    (reached,) = np.nonzero(gain >= 0)
    if len(reached) == 0:
        return math.inf
    first = int(reached[0])
    if first == 0:
        return float(nfe[0])
    before, after = gain[first - 1], gain[first]
    part = -before / (after - before)
    return float(nfe[first - 1] * (nfe[first] / nfe[first - 1]) ** part)
