"""Several draws of the noise, and the one that explains y best: for operators whose restoration may fail by chance.

In phase retrieval, one draw may end in an image that explains y badly; the best of four is what is reported (DPS, arXiv
2209.14687; DAPS, arXiv 2407.01521). The choice needs no ground truth.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from workbench.core.measurement import Measurement
from workbench.core.randomness import seed_of
from workbench.core.tensors import Latents, Scalars
from workbench.restoration.engine import time_on
from workbench.restoration.record import Record, Restored

if TYPE_CHECKING:
    from workbench.restoration.restorer import Restorer


def best_of_draws(
    restorer: "Restorer", measurements: Iterable[Measurement], truth: Callable[[Measurement], Latents] | None
) -> Iterator[Restored]:
    """Restore every image `num_draws` times, and keep the draw with the smallest ||y - A(x_hat)||.

    The first draw is what the restorer finds without the others. Severity and start are estimated again by each.

    Args:
        restorer: one that takes these images, with `num_draws` of at least 2.
        truth: as in `Restorer.restore`.
    """
    for measurement in measurements:
        draws = []
        for number in range(restorer.num_draws):
            own = replace(
                restorer,
                seed=seed_of_draw(restorer.seed, number),
                num_draws=1,
                under_way=partial(_under_way, restorer, number * len(measurement)),
            )
            draws.append(Restored.joined(list(own._restore([measurement], truth)), measurement.ids))
        yield kept(draws, restorer)


def seed_of_draw(seed: int, number: int) -> int:
    """The seed of a draw; that of the first is the restorer's own."""
    return seed if number == 0 else seed_of(seed, "draw", number)


@torch.no_grad()
def kept(draws: Sequence[Restored], restorer: "Restorer") -> Restored:
    """Of several restorations of the same measurement, that with the smallest residual, per image, at the cost of all.

    Of equal ones, the first is kept; one whose residual is not finite is the last choice.
    """
    measurement = draws[0].measurement
    clock = time_on(measurement.y.device)
    residuals = torch.stack([_residual(draw, restorer) for draw in draws]).nan_to_num(nan=torch.inf)
    best = residuals.argmin(0).tolist()
    x_hat = torch.stack([draws[number].x_hat[i] for i, number in enumerate(best)])
    share = (time_on(x_hat.device) - clock) / len(best)
    records = [_at_the_cost_of_all([draw.records[i] for draw in draws], n, share) for i, n in enumerate(best)]
    return Restored(measurement, x_hat, records)


def _at_the_cost_of_all(records: Sequence[Record], best: int, choosing: float) -> Record:
    """The record of the best draw, with what all draws of the image have cost.

    Args:
        choosing: seconds that the choice has taken.
    """
    evaluations: Counter[str] = Counter()
    for record in records:
        evaluations.update(record.evaluations)
    return replace(
        records[best],
        draw=best,
        evaluations=evaluations,
        flops=sum(record.flops for record in records),
        seconds=sum(record.seconds for record in records) + choosing,
        start_seconds=sum(record.start_seconds for record in records),
    )


def _residual(draw: Restored, restorer: "Restorer") -> Scalars:
    own = draw.measurement
    return own.residual_rms(restorer.degradation.A(draw.x_hat, own.params))


def _under_way(restorer: "Restorer", before: int, images: float) -> None:
    """Report the images in slots, each counted by the part that it has taken of the steps of all draws."""
    restorer.under_way((before + images) / restorer.num_draws)
