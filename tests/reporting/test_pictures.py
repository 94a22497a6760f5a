import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from workbench.core.config import UserError
from workbench.reporting import Card, Picture, Strip, data_uri, examples, gallery


@pytest.mark.parametrize("channels", [1, 3])
def test_data_uri_keeps_the_pixels(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels)) / 255
    header, _, payload = data_uri(image).partition(",")
    assert header == "data:image/png;base64"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(payload)))).reshape(5, 7, channels)
    assert np.array_equal(decoded, np.round(image * 255))


def test_data_uri_refuses_other_shapes() -> None:
    with pytest.raises(UserError, match="must be"):
        data_uri(np.zeros((5, 7)))


def test_examples_escape_their_captions() -> None:
    html = examples([Card([Picture(np.zeros((4, 4, 1)), ("<b>", "0.5"))], columns=2)])
    assert "<b>" not in html
    assert "&lt;b&gt;<br>0.5" in html
    assert len(re.findall("<img", html)) == 1


def test_large_images_are_webp_and_nearly_exact() -> None:
    y, x = np.mgrid[:200, :160] / 200
    image = (0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y))[..., None]
    header, _, payload = data_uri(image).partition(",")
    assert header == "data:image/webp;base64"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(payload))).convert("L")) / 255
    assert decoded.shape == (200, 160)
    assert 10 * np.log10(1 / np.mean((decoded - image[..., 0]) ** 2)) > 40


def test_gallery_has_an_anchor_a_strip_and_common_columns() -> None:
    picture = Picture(np.zeros((4, 4, 1)), ("black",))
    strips = [
        Strip("A & B", [Card([picture] * 2, 2, ("under <both>",))] * 3, "a note", "cell-1"),
        Strip("C", [Card([picture] * 4, 4)], anchor="cell-2"),
        Strip("without pictures", []),
    ]
    html = gallery(strips)
    assert html.startswith('<div class="gallery" style="--columns:6">')
    assert re.findall(r'id="([^"]*)"', html) == ["cell-1", "cell-2"]
    assert html.count("<img") == 10
    assert "A &amp; B" in html
    assert "under &lt;both&gt;" in html
    assert gallery([]) == '<div class="gallery" style="--columns:1"></div>'
