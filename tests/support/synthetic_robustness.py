"""Results of a robustness study made up from known effects, for tests of what is drawn and said from them."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist, squareform

from workbench.results import StudyResults

DEGRADATIONS = ("gaussian_blur", "random_inpainting", "motion_blur_crf", "gaussian_noise")
UNIVERSAL = "mixture"
MISMATCH_LOSS = 2.5
UNIVERSAL_LOSS = 0.25
OVER_CONFIDENCE = 10.0

SIX = (*DEGRADATIONS, "super_resolution", "jpeg")
SEEDS = ("0", "1", "2")
SEED_STEP = 0.1
"""By how much a mismatched encoder's loss grows from seed to seed, dB."""
UNSEEN_LOSS = 1.0
GAP = 0.8
"""The part of its loss that an encoder gains by a start from its true error variance."""
CLOSED = {"fused": 0.9, "residual": 0.6}
"""The part of that gap which a rule closes."""
NO_ENCODER_LOSS = {"residual": 1.5, "true": 1.2}
HARMED = ("gaussian_blur", "gaussian_noise")
"""The encoder and the degradation where `fused` loses HARM dB against the encoder's own variance."""
HARM = 0.4
NFE_FACTOR, START_SHARE, DISTRUSTED = 1.5, 0.25, 0.75
"""Of `fused`: evaluations against the encoder's own start, part of the time, part of mismatched images distrusted."""


def make_results(
    num_images: int = 32,
    degradations: tuple[str, ...] = DEGRADATIONS,
    universal: str | None = UNIVERSAL,
    mismatch_loss: float = MISMATCH_LOSS,
    size: int = 32,
) -> StudyResults:
    """A mismatched encoder loses `mismatch_loss` dB on average, is 10 times over-confident and starts too late."""
    rng = np.random.default_rng(0)
    encoders = [*degradations, *([universal] if universal else [])]
    image_ids = rng.integers(2**40, size=num_images)
    clean = _pictures(num_images, size)
    frames, examples = [], {}
    for j, degradation in enumerate(degradations):
        severity = rng.uniform(size=num_images)
        base = 27 - 6 * severity + rng.normal(0, 1, num_images) + j
        for i, encoder in enumerate(encoders):
            kind = "matched" if encoder == degradation else "universal" if encoder == universal else "mismatched"
            loss = {"matched": 0.0, "universal": UNIVERSAL_LOSS, "mismatched": mismatch_loss}[kind]
            psnr = base - (loss + rng.normal(0, 0.3, num_images) if loss else 0)
            s2 = (0.02 + 0.2 * severity) * rng.lognormal(0, 0.2, num_images) * (2 if kind == "mismatched" else 1)
            var_hat = s2 / (OVER_CONFIDENCE if kind == "mismatched" else 1) * rng.lognormal(0, 0.1, num_images)
            start, oracle = np.round(600 * np.sqrt(var_hat)), np.round(600 * np.sqrt(s2))
            cell = f"{i * 16 + j:012x}"
            frames.append(
                pd.DataFrame(
                    {
                        "encoder": encoder,
                        "degradation": degradation,
                        "cell": cell,
                        "image_id": image_ids,
                        "psnr": psnr,
                        "ssim": 0.9 - (30 - psnr) / 50,
                        "lpips": 0.1 + (30 - psnr) / 80,
                        "psnr_degraded": base - 6,
                        "psnr_decoded": psnr - 1.2,
                        "psnr_ceiling": 31 + rng.normal(0, 1, num_images),
                        "residual_ratio": rng.normal(1, 0.05, num_images),
                        "nfe": np.round(start / 8) + 1,
                        "decoder_evals": np.round(start / 8) + 2,
                        "encoder_evals": 1.0,
                        "flops": 2e8 * (start / 8 + 1),
                        "seconds": 0.004 * (start / 8 + 1),
                        "severity": severity,
                        "var_hat": var_hat,
                        "s2": s2,
                        "bias": rng.normal(0, 0.02, num_images),
                        "start_timestep": start.astype(int),
                        "oracle_timestep": oracle.astype(int),
                        "fell_back": False,
                    }
                )
            )
            noise = rng.normal(0, 1, clean[:8].shape)
            examples[cell] = {
                "clean": clean[:8],
                "degraded": (clean[:8] + 0.3 * noise).clip(0, 1),
                "decoded": (clean[:8] + 0.12 * noise).clip(0, 1),
                "restored": (clean[:8] + 0.05 * noise).clip(0, 1),
                "image_id": image_ids[:8],
            }
    return StudyResults(
        name="robustness",
        preset="desk",
        question="Does a severity encoder trained on one degradation still steer another?\n\nExpected: no.\n\nCost: 1.",
        command="python -m workbench study robustness --preset desk",
        axes={"encoder": encoders, "degradation": list(degradations)},
        frame=pd.concat(frames, ignore_index=True),
        examples=examples,
        provenance={
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "versions": {"torch": "2.14.1", "diffusers": "0.42.1"},
            "device": "CPU, 2 threads",
            "seed": 0,
            "seconds": 812.3456,
            "data_fingerprint": "c0ffee" * 10,
        },
        notes=["LPIPS (squeeze) is absent: no weights & no <network>."],
    )


def make_full_results(num_images: int = 32, degradations: tuple[str, ...] = SIX, size: int = 32) -> StudyResults:
    """The same with start rules, three seeds, universal encoders that never saw the tested degradation, and likeness.

    A mismatched encoder loses the more, the farther apart the two degradations lie; on average `MISMATCH_LOSS`.
    """
    results = make_results(num_images, degradations, size=size)
    distances = _distances(len(degradations))
    nearness = distances / distances.sum() * len(degradations) * (len(degradations) - 1) - 1
    rng = np.random.default_rng(1)
    examples = dict(results.examples)
    frames: list[pd.DataFrame] = []

    def add(rows: pd.DataFrame, like: str | None = None, **columns: Any) -> None:
        cell = f"{4096 + len(frames):012x}"
        frames.append(rows.assign(cell=cell, **columns))
        examples[cell] = results.examples[like] if like else {"image_id": np.array([], dtype=np.int64)}

    for (encoder, degradation), own in results.frame.groupby(["encoder", "degradation"], sort=False):
        mismatched = encoder in degradations and encoder != degradation
        matched = results.frame.query("encoder == degradation == @degradation")["psnr"].to_numpy()
        j, cell = degradations.index(degradation), own["cell"].iloc[0]
        if mismatched:
            own = own.assign(psnr=own["psnr"] - MISMATCH_LOSS * nearness[degradations.index(encoder), j])
        for place, seed in enumerate(SEEDS):
            change = SEED_STEP * (place - 1) if mismatched else 0.0
            seeded = own.assign(psnr=own["psnr"] - change, start_seconds=0.01 * own["seconds"], distrusted=False)
            add(seeded, cell, variance="encoder", seed=seed)
            if seed == SEEDS[0]:
                _add_rules(add, cell, seeded, matched, mismatched, rng)
        if encoder == UNIVERSAL:
            unseen = own.assign(
                encoder=f"all but {degradation}", psnr=matched - UNSEEN_LOSS + rng.normal(0, 0.2, num_images)
            )
            unseen = unseen.assign(start_seconds=0.01 * own["seconds"], distrusted=False)
            add(unseen, cell, variance="encoder", seed=SEEDS[0])
            _add_rules(add, cell, unseen, matched, mismatched=False, rng=rng)
            for rule, loss in NO_ENCODER_LOSS.items():
                none = unseen.assign(encoder="none", psnr=matched - loss + rng.normal(0, 0.2, num_images))
                add(none, variance=rule, seed="none")
    frame = pd.concat(frames, ignore_index=True)
    axes = {name: list(frame[name].unique()) for name in ("encoder", "degradation", "variance", "seed")}
    evidence = {"likeness": make_likeness(degradations)}
    return dataclasses.replace(results, axes=axes, frame=frame, examples=examples, evidence=evidence)


def make_likeness(names: tuple[str, ...]) -> dict[str, Any]:
    """Evidence of likeness: the distances that the losses of `make_full_results` grow with."""
    distances = _distances(len(names))
    return {
        "names": list(names),
        "num_images": 5000,
        "latents": distances.tolist(),
        "errors": (0.8 * distances).tolist(),
        "spectra": np.sqrt(distances).tolist(),
        "sampling": [0.2] * len(names),
        "by_severity": [(k * distances).tolist() for k in (0.2, 0.5, 1.0, 1.4, 1.9)],
        "sampling_by_severity": [0.4] * 5,
        "encoder_errors": None,
    }


def _add_rules(
    add: Any, cell: str, own: pd.DataFrame, matched: np.ndarray, mismatched: bool, rng: np.random.Generator
) -> None:
    """The encoder's cells of the other start rules, by the effects stated above; `cell` has the pictures of `fused`."""
    gap = GAP * (matched - own["psnr"].to_numpy())
    harm = HARM if (own["encoder"].iloc[0], own["degradation"].iloc[0]) == HARMED else 0.0
    add(own.assign(psnr=own["psnr"] + gap), variance="true", seed=SEEDS[0])
    for rule, part in CLOSED.items():
        gain = -np.full(len(own), harm) if harm and rule == "fused" else part * gap
        nfe = own["nfe"] * (NFE_FACTOR if mismatched else 1)
        changed = own.assign(
            psnr=own["psnr"] + gain + rng.normal(0, 0.02, len(own)),
            nfe=nfe,
            seconds=own["seconds"] / (1 - START_SHARE),
            start_seconds=own["seconds"] * START_SHARE / (1 - START_SHARE),
            distrusted=rule == "fused" and mismatched and np.arange(len(own)) % 4 < 4 * DISTRUSTED,
        )
        add(changed, cell if rule == "fused" else None, variance=rule, seed=SEEDS[0])


def _distances(n: int) -> np.ndarray:
    """Between points that are spread, the first and the third close together."""
    points = np.random.default_rng(2).normal(0, 5, size=(n, 2))
    if n > 2:
        points[2] = points[0] + 0.1
    return squareform(pdist(points))


def _pictures(num_images: int, size: int) -> np.ndarray:
    """(n, size, size, 1) discs of several radii."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    radii = np.linspace(0.15, 0.45, num_images).reshape(-1, 1, 1)
    return (0.9 * (np.hypot(x, y) < radii) + 0.05 * (1 + x))[..., None].astype(np.float32)
