"""Results of a robustness study made up from known effects, for tests of what is drawn and said from them."""

import numpy as np
import pandas as pd

from workbench.results import StudyResults

DEGRADATIONS = ("gaussian_blur", "random_inpainting", "motion_blur_crf", "gaussian_noise")
UNIVERSAL = "mixture"
MISMATCH_LOSS = 2.5
UNIVERSAL_LOSS = 0.25
OVER_CONFIDENCE = 10.0


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


def _pictures(num_images: int, size: int) -> np.ndarray:
    """(n, size, size, 1) discs of several radii."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    radii = np.linspace(0.15, 0.45, num_images).reshape(-1, 1, 1)
    return (0.9 * (np.hypot(x, y) < radii) + 0.05 * (1 + x))[..., None].astype(np.float32)
