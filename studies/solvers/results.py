"""Rows of the solvers study as runs: one solver on one degradation from one start on one grid, one row per image."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pandas import DataFrame, Series

from studies._equal_cost import Comparison
from studies._rows import cells_by, has_column, intervals, lost, require_axes
from workbench.experiments.results import StudyResults
from workbench.metrics import Estimate, ratio_of_means
from workbench.reporting import QUANTITIES, readable
from workbench.severity.start import CONTROL_NAMES

AXES = ("solver", "degradation", "start", "timestep", "num_steps", "eta")
CONTROL = "control"
"""An axis of results that hold controls of the SNR-matched start."""
DECODED, LONG, FEW = "decode_only", "ldps", "ldps_few"
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

    rows: DataFrame
    solver: str
    degradation: str
    start: str
    timestep: str
    num_steps: str
    eta: str
    control: str

    @property
    def kind(self) -> str:
        """The start in words, and DDPM where the reverse step draws noise as it does."""
        return STARTS.get(self.start, self.start) + (", DDPM" if float(self.eta) == 1 else "")

    @property
    def name(self) -> str:
        if self.solver == DECODED:
            return "decoded, no diffusion"
        start = f"control: {readable(self.control)}" if self.control else self.kind
        return start + (f" at {self.timestep}" if self.start == FIXED else "") + f", {self.num_steps} steps"

    @property
    def cell(self) -> str:
        return str(self.rows["cell"].iloc[0])

    @property
    def at_edge(self) -> bool:
        """Whether the step size that was chosen is still at an end of what was tried."""
        return "at_edge" in self.rows and bool(self.rows["at_edge"].any())

    @cached_property
    def nfe(self) -> float:
        return float(self.rows["nfe"].mean())

    @cached_property
    def val_psnr(self) -> float:
        """Mean PSNR on validation images, dB; -inf for runs that were not tuned."""
        score = float(self.rows["val_psnr"].iloc[0]) if "val_psnr" in self.rows else math.nan
        return -math.inf if math.isnan(score) else score


@dataclass(frozen=True)
class Contest:
    """A run against another, image by image. What compares them raises a UserError if their images differ."""

    run: Run
    over: Run

    def gain(self, quality: str = "psnr") -> Series:
        """By how much the run is better; for LPIPS that is lower."""
        return -lost(self.run.rows, self.over.rows, quality, f"two runs on {self.run.degradation}")

    @cached_property
    def gains(self) -> dict[str, Estimate]:
        """In each quality that both have."""
        shared = self._shared(MARGINS)
        return dict(zip(shared, intervals([self.gain(quality) for quality in shared]), strict=True))

    @cached_property
    def savings(self) -> dict[str, Estimate]:
        """By cost that both know, the other's mean over the run's."""
        return {cost: ratio_of_means(self.over.rows[cost], self.run.rows[cost]) for cost in self._shared(COSTS)}

    def _shared(self, columns: Iterable[str]) -> list[str]:
        return [name for name in columns if has_column(self.run.rows, name) and has_column(self.over.rows, name)]


class Claim(Contest):
    """The SNR-matched run against the same solver from pure noise."""

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
        edges = [run.name for run in (self.over, self.run) if run.at_edge]
        return [f"{QUANTITIES[q].label} from so few images" for q in wide] + [
            f"the best step size of {name} lies at an end of what was tried" for name in edges
        ]

    @property
    def verdict(self) -> str:
        """Whether the claim holds, in words."""
        return "does not hold" if self.failures else "cannot be told" if self.undecided else "holds"


class Fixed(NamedTuple):
    """Starts at one timestep for all images (CCDF), which read no severity, tried at a few timesteps on one grid."""

    over_noise: Contest  # the best of them on validation images, over the baseline from pure noise
    matched: Contest  # the SNR-matched run over that best one
    nearest: Contest  # the SNR-matched run over the one whose mean NFE are nearest to its own, by their ratio


def best(runs: Sequence[Run]) -> Run | None:
    """The best on validation images; of those that are as good, up to TOLERANCE, the cheapest. None of none."""
    highest = max((run.val_psnr for run in runs), default=0.0)
    return min((run for run in runs if run.val_psnr >= highest - TOLERANCE), key=lambda run: run.nfe, default=None)


@dataclass(frozen=True)
class Pair:
    """All runs of a solver on a degradation; `decoded` is the estimate without diffusion. None: runs are missing."""

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
    def claim(self) -> Claim | None:
        """The judged run against the best from pure noise, on the published grid or a shorter one.

        Judged is, of the SNR-matched runs cheap enough for the claim, the best on validation images; the cheapest where
        none is cheap enough.
        """
        baseline, matched = best(self.of(FULL)), self.of(MATCHED)
        if baseline is None or not matched:
            return None
        return Claim(best([run for run in matched if FEWER_NFE * run.nfe <= baseline.nfe]) or matched[0], baseline)

    @cached_property
    def fixed(self) -> Fixed | None:
        fixed = best(self.of(FIXED))
        if fixed is None or self.claim is None:
            return None
        judged, baseline = self.claim.run, self.claim.over
        near = min(self.of(FIXED), key=lambda run: abs(math.log(max(run.nfe, 1e-9) / max(judged.nfe, 1e-9))))
        return Fixed(Contest(fixed, baseline), Contest(judged, fixed), Contest(judged, near))

    @cached_property
    def decoded_over_noise(self) -> Contest | None:
        return Contest(self.decoded, self.claim.over) if self.decoded and self.claim else None

    @cached_property
    def comparison(self) -> Comparison | None:
        """The SNR-matched run beside its controls of equal cost, on the same grid."""
        controls = self.of(EQUAL_COST)
        grids = {run.num_steps for run in controls}
        matched = next((run.rows for run in self.of(MATCHED) if run.num_steps in grids), None)
        rows = {control: run.rows for control in CONTROL_NAMES for run in controls if run.control == control}
        return None if matched is None else Comparison(self.name, matched, rows)


@dataclass(frozen=True)
class Solvers:
    """Every solver on every degradation, in the axes' order, and the results that they were read from."""

    pairs: Sequence[Pair]
    results: StudyResults

    @property
    def claims(self) -> dict[str, Claim]:
        """By the pair's name, without those that lack a run."""
        return {pair.name: pair.claim for pair in self.pairs if pair.claim is not None}

    @property
    def comparisons(self) -> list[Comparison]:
        """Of the pairs that have controls of equal cost."""
        return [pair.comparison for pair in self.pairs if pair.comparison is not None]


def read(results: StudyResults) -> Solvers:
    """Every run, in pairs.

    Raises:
        UserError: without one of the axes, or with others of several values that cannot be told apart.
    """
    require_axes(results, AXES)

    def key(row: Series) -> tuple[str, ...]:
        return *(str(row[axis]) for axis in AXES), str(row.get(CONTROL, "")) if row["start"] == EQUAL_COST else ""

    pairs: dict[tuple[str, str], list[Run]] = {}
    for labels, rows in cells_by(results.frame, key).items():
        pairs.setdefault((labels[0], labels[1]), []).append(Run(rows, *labels))
    decoded = {degradation: run for (solver, degradation), (run, *_) in pairs.items() if solver == DECODED}
    return Solvers(
        [Pair(*name, runs, decoded.get(name[1])) for name, runs in pairs.items() if name[0] != DECODED], results
    )
