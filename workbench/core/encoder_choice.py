"""Which severity encoder to restore with."""

from enum import StrEnum


class EncoderChoice(StrEnum):
    """The source of the severity estimate in a restoration.

    auto: the pretrained encoder if one ships for these models and the operator is among those that it knows, else
    quick; matched: an encoder trained for this operator; universal: the pretrained one; quick: an estimator fitted to
    this operator in about a minute; none: only the measurement's residual.
    """

    AUTO = "auto"
    MATCHED = "matched"
    UNIVERSAL = "universal"
    QUICK = "quick"
    NONE = "none"
