"""The method in one figure: the harder the measurement, the earlier reverse diffusion starts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.reporting.restorations import Restorations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DONE, LEFT_OUT, TEXT = "#0b6e99", "#d9dee2", "#0a0b0c"


def starts_figure(runs: Sequence[Restorations], num_steps: int, image: int = 0) -> "Figure":
    """One image at several severities, one column each: degraded, restored, and the reverse steps taken.

    Args:
        runs: runs of the same images with one restorer.
        num_steps: number of steps of a reverse process from pure noise.
        image: index of the image to draw.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.75 * len(runs) + 0.8, 4.4))
    axes = figure.subplots(3, len(runs), height_ratios=(4, 4, 1), squeeze=False)
    for row, name in enumerate(("degraded", "restored")):
        axes[row, 0].set_ylabel(name, fontsize=11, color=TEXT)
    for (above, below, bar), run in zip(axes.T, runs, strict=True):
        numbers = run.frame().to_dict("records")[image]
        pictures = {
            above: (run.measurement.encoder_input(), f"severity {run.severity:g}"),
            below: (run.restored.x_hat, f"{numbers['psnr_degraded']:.1f} to {numbers['psnr']:.1f} dB"),
        }
        for place, (shown, title) in pictures.items():
            pixels = shown[image].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
            place.imshow(pixels, cmap="gray", vmin=0, vmax=1)
            place.set_title(title, fontsize=11, color=TEXT)
        nfe = int(numbers["nfe"])
        # time runs to the right, from pure noise to the image
        bar.barh([0], [num_steps - nfe], color=LEFT_OUT)
        bar.barh([0], [nfe], left=[num_steps - nfe], color=DONE)
        bar.set(xlim=(0, num_steps), ylim=(-0.5, 0.5))
        bar.set_xlabel(f"{nfe} of {num_steps} steps", fontsize=11, color=TEXT)
    for place in axes.flat:
        place.set(xticks=[], yticks=[])
        for spine in place.spines.values():
            spine.set_visible(False)
    figure.tight_layout()
    return figure
