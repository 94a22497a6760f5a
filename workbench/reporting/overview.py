"""What is there and what is left: a study's cells, and what the workbench finds on this machine."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.files import PARTIAL
from workbench.stages.base import PROVENANCE, Runtime, Stage, damage, read_provenance, unfinished


def print_overview(name: str, preset: str, overrides: Mapping[str, Any], runtime: Runtime) -> None:
    """A table of the study's cells with what is cached, and an estimate of what is left."""
    from rich.table import Table

    from workbench.reference import find_reference
    from workbench.study import load_study

    study, question = load_study(name)
    cells = study.cells(preset, overrides)
    support = study.support(cells) if study.support is not None else {}
    reference = find_reference(name, preset)
    table = Table(title=f"{name} ({preset})", caption=question.split("\n")[0])
    for column in (*cells[0].labels, "cell", "state"):
        table.add_column(column)
    todo: dict[str, Stage] = {}
    for cell in cells:
        missing = cell.stage.missing(runtime)
        if missing and reference is not None and cell.stage in reference:
            missing, state = [], "[green]in the reference[/green]"
        else:
            state = "[green]cached[/green]" if not missing else "needs " + ", ".join(stage.name for stage in missing)
        todo.update({stage.identity: stage for stage in missing})
        table.add_row(*cell.labels.values(), cell.stage.identity, state)
    runtime.progress.show(table)
    if reference is None or not reference.supports(support):
        todo.update({needed.identity: needed for stage in support.values() for needed in stage.missing(runtime)})
    if todo:
        seconds = sum(estimated_seconds(stage, runtime) for stage in todo.values())
        runtime.progress.say(f"{len(todo)} stages are left, about {seconds / 60:.0f} min on this machine")
    else:
        runtime.progress.say("all cached")


def estimated_seconds(stage: Stage, runtime: Runtime) -> float:
    """How long a stage will take, at the rate of finished stages of its kind here, else at its nominal rate."""
    rates = []
    for path in (runtime.root / "stages" / stage.name).glob(f"*/{PROVENANCE}"):
        if damage(path.parent) is not None:
            continue  # it is named where it is used
        record = read_provenance(path.parent)
        if not record["resumed"]:
            rates.append((record["wall_seconds"], record["effort"]))
    # of the totals: small runs, which are mostly start-up, must not set the rate of large ones
    rate = sum(s for s, _ in rates) / sum(effort for _, effort in rates) if rates else stage.seconds_per_effort
    return rate * stage.effort()


def print_doctor(runs: Path) -> None:
    """Versions, device, threads, data and weights found, W&B mode."""
    import importlib.metadata

    import torch
    from rich.console import Console
    from rich.table import Table

    from workbench import __version__, zoo
    from workbench.config import UserError, kind_of, members
    from workbench.data import Source
    from workbench.metrics import Absent, LPIPSConfig, load_lpips
    from workbench.tracking.mode import wandb_mode

    table = Table(show_header=False, box=None)
    packages = ("torch", "torchvision", "diffusers", "deepinv", "lightning", "torchmetrics", "lpips", "wandb", "optuna")
    table.add_row("workbench", f"{__version__} on Python {platform.python_version()}")
    table.add_row("packages", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    table.add_row("device", f"CPU with {os.cpu_count()} cores, {torch.get_num_threads()} threads; GPU: {gpu}")
    advice = (
        "in hardware: --severity_encoder.precision=bf16 may be faster" if _bf16_in_hardware() else "not in hardware"
    )
    table.add_row("bf16", advice)
    for source in members(Source):
        if not any(info.is_required() for info in source.model_fields.values()):
            present = source().is_present()  # type: ignore[attr-defined]
            kind = kind_of(source)
            table.add_row(f"data {kind}", "present" if present else f"absent: python -m workbench data fetch {kind}")
    shipped = sorted(zoo.zoo_root().glob(f"*/{zoo.RECIPE}"))
    table.add_row("zoo", ", ".join(path.parent.name for path in shipped) or f"empty ({zoo.zoo_root()})")
    lpips = load_lpips(LPIPSConfig())
    table.add_row("LPIPS", lpips.reason if isinstance(lpips, Absent) else "backbone found")
    table.add_row("W&B", wandb_mode())
    try:
        Runtime(runs)
        table.add_row("runs", f"{runs.resolve()}, writable")
        if begun := unfinished(runs):
            size = sum(file.stat().st_size for folder in begun for file in folder.rglob("*") if file.is_file())
            table.add_row(
                "unfinished",
                f"stages: {len(begun)}, {size / 1e6:.1f} MB; the commands that began them go on from there; "
                f"if you want none of them, delete {runs}/stages/*/*{PARTIAL}",
            )
    except UserError as error:
        table.add_row("runs", str(error))
    Console().print(table)


def _bf16_in_hardware() -> bool:
    """Whether the CPU multiplies bf16 itself; emulation is many times slower than float32."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.is_file() else ""
    return "avx512_bf16" in text or "amx_bf16" in text
