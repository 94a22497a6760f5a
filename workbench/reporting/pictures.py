"""Images on a page: data URIs, cards of related images, and galleries that compare them row by row."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from workbench.core.config import UserError
from workbench.data.shown import shown

SMALL = 128
"""Images up to this many pixels per side are stored exactly and shown with visible pixels; larger ones as WebP."""

WEBP_QUALITY = 95


@dataclass(frozen=True)
class Picture:
    """An (H, W, C) image on [0, 1] with the lines below it."""

    image: NDArray[np.floating]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """Related images, in rows of `columns`, with common lines below."""

    pictures: Sequence[Picture]
    columns: int = 3
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Strip:
    """A row of a gallery: a heading with a note below, next to cards. `anchor` is the id for links."""

    heading: str
    cards: Sequence[Card]
    note: str = ""
    anchor: str = ""


def data_uri(image: NDArray[np.floating]) -> str:
    """An (H, W, C) image on [0, 1] as a data URI; values outside are clipped. Channels are converted by `shown`.

    PNG, exact to 8 bits, for small images; WebP, a tenth of the size, for larger ones.

    Raises:
        UserError: for another shape.
    """
    from PIL import Image

    if image.ndim != 3:
        raise UserError(f"an image to show must be (H, W, C), got {image.shape}")
    pixels = (np.nan_to_num(shown(image)).clip(0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    if _small(image):
        picture.save(buffer, format="PNG", optimize=True)
    else:
        picture.save(buffer, format="WebP", quality=WEBP_QUALITY)
    kind = "png" if _small(image) else "webp"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def examples(cards: Sequence[Card]) -> Markup:
    """Cards of images with captions, as many next to each other as fit."""
    return Markup('<div class="cards">{}</div>').format(Markup().join(map(_card, cards)))


def gallery(strips: Sequence[Strip]) -> Markup:
    """Strips below each other, with their images in common columns."""
    columns = max((sum(card.columns for card in strip.cards) for strip in strips), default=1)
    rows = Markup().join(map(_strip, strips))
    return Markup('<div class="gallery" style="--columns:{}">{}</div>').format(max(columns, 1), rows)


def _strip(strip: Strip) -> Markup:
    identity = Markup(' id="{}"').format(strip.anchor) if strip.anchor else Markup()
    note = Markup("<p>{}</p>").format(strip.note) if strip.note else Markup()
    heading = Markup('<div class="heading"><strong>{}</strong>{}</div>').format(strip.heading, note)
    cards = Markup().join(map(_card, strip.cards))
    return Markup('<div class="strip"{}>{}<div class="row">{}</div></div>').format(identity, heading, cards)


def _card(card: Card) -> Markup:
    pictures = Markup().join(map(_picture, card.pictures))
    lines = Markup("<p>{}</p>").format(Markup("<br>").join(card.lines)) if card.lines else Markup()
    return Markup('<div class="card" style="--columns:{}">{}{}</div>').format(card.columns, pictures, lines)


def _picture(picture: Picture) -> Markup:
    lines = Markup("<br>").join(picture.lines)
    return Markup('<figure><img src="{}" alt="{}"{}><figcaption>{}</figcaption></figure>').format(
        data_uri(picture.image),
        ", ".join(picture.lines),
        Markup(' class="pixels"') if _small(picture.image) else "",
        lines,
    )


def _small(image: NDArray[np.floating]) -> bool:
    return max(image.shape[:2]) <= SMALL
