import dataclasses
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_robustness import make_results

from workbench.config import parse_overrides
from workbench.reporting import Section, paragraph, render, side_by_side
from workbench.reporting.publish import draw
from workbench.stages.evaluate import Evaluate
from workbench.study import Study

VOID = {"meta", "link", "img", "br"}


class Balance(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path: Path) -> str:
    sections = [Section("First & foremost", "<p id=one>raw</p>"), Section("Second", "<p>two</p>")]
    path = render(make_results(4), sections, tmp_path / "report" / "index.html", ["It costs <2 dB.", "Two.", "Three."])
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    return path.read_text()


def test_order_of_the_page(page: str) -> None:
    parts = [
        "<h1>Does a severity encoder trained on one degradation still steer another?</h1>",
        "It costs &lt;2 dB.",
        "Three.",
        "Expected: no.",
        "Cost: 1.",
        "LPIPS (squeeze) is absent",
        '<a href="#first-foremost">First &amp; foremost</a>',
        '<a href="#made">How this was made</a>',
        '<section id="first-foremost">',
        "<p id=one>raw</p>",
        '<section id="second">',
        "How this was made</h2>",
        "python -m workbench study robustness",
        "encoder (Gaussian blur, random inpainting, motion blur + CRF, Gaussian noise, universal) and",
        "Provenance",
    ]
    places = [page.index(part, page.index("<body>")) for part in parts]
    assert places == sorted(places)


def test_text_is_escaped_and_tags_balance(page: str) -> None:
    assert "&lt;network&gt;" in page
    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def test_nothing_is_requested_from_elsewhere(page: str) -> None:
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"<script\s[^>]", page)
    assert "@import" not in page


def test_dark_pages_and_phones(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page


def test_settings_are_written_as_overrides(tmp_path: Path) -> None:
    results = make_results(4)
    cell = {"start": {"kind": "fixed", "timestep": 3}, "data": {"path": None}, "sizes": [1, 2]}
    results.provenance["cell"] = cell
    page = render(results, [], tmp_path / "index.html").read_text()
    block = re.search(r'<pre class="settings"><code>(.*?)</code>', page, re.DOTALL)
    assert block is not None
    overrides = parse_overrides(unescape(block[1]).split("\n"))
    assert overrides == {"start.kind": "fixed", "start.timestep": 3, "data.path": None, "sizes": [1, 2]}


def test_figures_keep_their_percent_sign_and_commands_their_words(tmp_path: Path) -> None:
    results = dataclasses.replace(make_results(2), question="Is it so?\n\nSeconds. Run: python -m workbench study x")
    page = render(results, [Section("Part", paragraph("40 % [26, 58]"))], tmp_path / "index.html").read_text()
    assert "40\N{NO-BREAK SPACE}% [26, 58]" in page
    assert "Seconds. Run: <code>python -m workbench study x</code></p>" in page


def test_provenance_shows_nested_values(page: str) -> None:
    for value in ("0123456789abcdef0123456789abcdef01234567", "0.42.1", "CPU, 2 threads", "812.3"):
        assert value in page


def test_sections_for_which_there_is_nothing_are_left_out(tmp_path: Path) -> None:
    def nothing(results) -> None:
        return None

    study = Study(cell=Evaluate(), axes={}, report=(nothing, lambda results: Section("Shown", "")))
    page, answer = draw(study, make_results(2), tmp_path)
    assert re.findall(r"<h2>(.*?)</h2>", page.read_text()) == ["Shown", "How this was made"]
    assert answer == []


def test_text_of_sections_is_escaped_and_figures_are_not() -> None:
    assert paragraph("a < b & c") == "<p>a &lt; b &amp; c</p>"
    assert side_by_side([paragraph("1"), paragraph("2")]) == (
        '<div class="figures"><div><p>1</p></div><div><p>2</p></div></div>'
    )


def test_a_notebook_shows_a_section_with_its_own_style() -> None:
    shown = Section("A & B", "<p>raw</p>")._repr_html_()
    assert type(shown) is str
    assert "<h3>A &amp; B</h3><p>raw</p>" in shown
    assert "<h3>" not in Section("", "<p>raw</p>")._repr_html_()
    style = shown[shown.index("<style>") : shown.index("</style>")]
    assert style.count("{") == style.count("}")
    assert style.startswith("<style>.workbench {"), "rules are nested: they hold for nothing else"
    Balance().feed(shown)
