"""The page of the few-steps study: quality and cost of every method."""

from pathlib import Path

from studies._rows import has_column, table
from studies.few_steps.results import Methods
from workbench.metrics import mean_interval
from workbench.reporting import QUANTITIES, Section, Words, readable

WORDS = Words(Path(__file__).with_name("templates"))


def answer(found: Methods) -> list[str]:
    """What the first method reaches, and which is the best in PSNR and in LPIPS."""
    first = found.names[0]
    best = {}
    for column in ("psnr", "lpips"):
        if _has(found, column):
            name = max(found.names, key=lambda name: float(found.gain(name, column).mean()))
            best[QUANTITIES[column].label] = (name, mean_interval(found.gain(name, column)), column)
    return WORDS.sentences(
        first=first,
        gain=mean_interval(found.mean(first, "psnr") - found.mean(first, "psnr_decoded")),
        nfe=float(found.mean(first, "nfe").mean()),
        best=best,
        nfe_of={name: float(found.mean(name, "nfe").mean()) for name in found.names},
    )


def overall(found: Methods) -> Section:
    """Averages over the degradations."""
    rows: dict[str, dict[str, object]] = {}
    for name in found.names:
        row: dict[str, object] = {"PSNR, dB": found.mean(name, "psnr")}
        row["PSNR above the first, dB"] = found.gain(name, "psnr")
        if _has(found, "lpips"):
            row["LPIPS"] = found.mean(name, "lpips")
            row["LPIPS gained on the first"] = found.gain(name, "lpips")
        row["NFE"] = float(found.mean(name, "nfe").mean())
        row["GFLOP"] = float(found.mean(name, "flops").mean()) / 1e9
        row["residual / noise std"] = found.mean(name, "residual_ratio")
        rows[name] = row
    decimals = {"NFE": 1, "GFLOP": 1, "LPIPS": 4, "LPIPS gained on the first": 4}
    return WORDS.section("overall", table=table(rows, "solver", decimals))


def each(found: Methods) -> Section:
    """Every degradation."""
    rows: dict[str, dict[str, object]] = {}
    for name in found.names:
        rows[name] = {
            readable(degradation): found.psnr_gain(name, degradation)
            if name != found.names[0]
            else found.diffusion(name, degradation)
            for degradation in found.cells
        }
    return WORDS.section("each", table=table(rows, "solver", 2))


def _has(found: Methods, column: str) -> bool:
    return all(has_column(rows, column) for own in found.cells.values() for rows in own.values())
