"""Split conformal prediction: an upper bound that holds for any encoder and any error distribution.

Let the scores of n images and of a new one be exchangeable. With q the ceil((n + 1)(1 - risk))-th smallest of the n,

    P(new score > q)  <=  risk        and, without ties,  >  risk - 1 / (n + 1)

(Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; Romano, Patterson and Candes, arXiv
1905.03222; Angelopoulos and Bates, arXiv 2107.07511, appendix D). Here the score is log(s2 / v), so v exp(q) bounds s2.

The probability is over all images, including those of the fit: nothing is guaranteed at one severity, nor for images
that are not exchangeable with those of the fit, such as images with another degradation.
"""

import math
from collections.abc import Sequence

from workbench.core.bounds import MAX_COUNT
from workbench.core.config import UserError
from workbench.metrics.statistics import CONFIDENCE

ROUNDING = 1e-9
"""Rounding tolerance, so that 29 % of 100 is 29 and not 28 (for a sum of 28.999999999999996)."""


def num_above(num_scores: int, risk: float) -> int:
    """How many of the n + 1 scores may exceed the bound: all but ceil((n + 1)(1 - risk)), and at most n.

    If 0, there is no bound. If n, the bound is the smallest score, also for a risk that rounding cannot tell from 1.
    """
    return min(num_scores, math.floor((num_scores + 1) * risk + ROUNDING))


def check_sample(num_scores: int, risk: float) -> None:
    """Raise UserError for a risk that is too small for this many scores: the bound would be infinite."""
    if num_above(num_scores, risk) == 0:
        needed = 1 / risk - ROUNDING  # infinite for the smallest numbers
        images = str(math.ceil(needed) - 1) if needed <= MAX_COUNT else f"more than {MAX_COUNT}"
        raise UserError(
            f"risk={risk:g} needs {images} validation images for comparison, but there are {num_scores}: "
            f"use more, or allow a risk of 1/{num_scores + 1}"
        )


def upper_quantile(scores: Sequence[float], risk: float) -> float:
    """q: the ceil((n + 1)(1 - risk))-th smallest of n ascending scores.

    Raises:
        UserError: if there are too few.
    """
    check_sample(len(scores), risk)
    return scores[len(scores) - num_above(len(scores), risk)]


def promised_range(risk: float, num_scores: int, num_images: int) -> tuple[float, float]:
    """The range of 95 % of measured violation rates if the bound is valid and scores have no ties.

    A rate on `num_images` images varies with these images and with the `num_scores` scores behind the bound: the number
    of violations is beta-binomial (arXiv 2107.07511, section 3.2 and appendix C).
    """
    from scipy.stats import betabinom

    check_sample(num_scores, risk)
    above = num_above(num_scores, risk)
    low, high = betabinom(num_images, above, num_scores + 1 - above).ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low) / num_images, float(high) / num_images
