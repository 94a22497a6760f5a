"""The page as a reader meets it: drawn by a real browser, on a desk, on a phone, in the dark and on paper."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from synthetic_robustness import DEGRADATIONS, make_full_results, make_results

from studies.robustness import sections
from studies.robustness.study import study
from workbench.metrics import statistics
from workbench.reporting.index import write_index
from workbench.reporting.publish import draw

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: install Debian's chromium (apt install chromium)"),
]
MANY = (*DEGRADATIONS, "super_resolution", "jpeg", "haze")
DESK, PHONE = (1280, 900), (390, 844)
A4_WIDTH = 794
"""210 mm in CSS pixels."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of studies of four, of seven, and of six degradations with all that a report can hold; an index of them."""
    studies = tmp_path_factory.mktemp("studies")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "NUM_RESAMPLES", 25)
        studied = {
            "four": make_results(16),
            "seven": make_results(16, degradations=MANY),
            "full": make_full_results(16),
        }
        for name, results in studied.items():
            found[name], _ = draw(study, results, studies / "robustness" / name)
    found["index"] = write_index(studies, [path.parents[1] for path in found.values()], {})
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    # a container's root has no sandbox, and its shared memory is small
    arguments = ["--disable-gpu", "--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, pages: dict[str, Path]) -> Iterator[Callable[..., object]]:
    """Opens a page; fails on anything that the browser complains of, and on any request that leaves the file."""
    complaints, contexts = [], []

    def complain(request) -> None:
        if not request.url.startswith(("file:", "data:")):
            complaints.append(request.url)

    def open_page(name: str, size: tuple[int, int] = DESK, fragment: str = "", **options):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", complain)
        page.goto(pages[name].as_uri() + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


UNFOLD = "document.querySelectorAll('details').forEach(details => { details.open = true; })"
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter(element => {
  const box = element.getBoundingClientRect();
  const scrolls = element.closest(".plot, .table");
  return !scrolls && box.width > 0 && (box.left < -1 || box.right > document.documentElement.clientWidth + 1);
}).map(element => element.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize(
    ("name", "width"), [("four", 320), ("seven", 390), ("full", 390), ("full", 1280), ("index", 390)]
)
def test_only_boxes_scroll_sideways(visit, name: str, width: int) -> None:
    page = visit(name, (width, 844))
    page.evaluate(UNFOLD)
    inner, outer = page.evaluate(WIDTHS)
    assert inner <= outer
    assert page.evaluate(OUTSIDE) == []


def test_matrix_of_four_fits_a_phone(visit) -> None:
    page = visit("four", PHONE)
    inner, outer = page.evaluate("(() => { const p = document.querySelector('.plot');"
                                 " return [p.scrollWidth, p.clientWidth]; })()")  # fmt: skip
    assert inner <= outer


TEXTS = """() => [...document.querySelectorAll("svg.figure")].map(figure => {
  const box = figure.getBoundingClientRect(), scale = box.width / figure.viewBox.baseVal.width;
  const texts = [...figure.querySelectorAll("text")].filter(text => text.textContent.trim());
  return {
    width: box.width, height: box.height, count: texts.length,
    smallest: Math.min(...texts.map(text => parseFloat(getComputedStyle(text).fontSize) * scale)),
    outside: texts.filter(text => {
      const t = text.getBoundingClientRect();
      return t.width <= 0 || t.left < box.left - 1 || t.right > box.right + 1 || t.top < box.top - 1 ||
             t.bottom > box.bottom + 1;
    }).map(text => text.textContent.trim()),
  };
})"""


@pytest.mark.parametrize(("name", "count"), [("four", 13), ("seven", 13), ("full", 13 + 5 + 6 + 2 + 4)])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_figures_are_visible_and_their_labels_readable(visit, name: str, count: int, size: tuple[int, int]) -> None:
    page = visit(name, size)
    page.evaluate(UNFOLD)
    figures = page.evaluate(TEXTS)
    assert len(figures) == count
    for figure in figures:
        assert figure["width"] > 300
        assert figure["height"] > 100
        assert figure["count"] > 10
        assert figure["smallest"] >= 9.9
        assert figure["outside"] == []
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth * image.width > 0)")
    assert len(loaded) > 100
    assert all(loaded)


OVERLAPS = """() => [...document.querySelectorAll("svg.figure")].flatMap(figure => {
  const texts = [...figure.querySelectorAll("text")].filter(text => text.textContent.trim());
  const boxes = texts.map(text => text.getBoundingClientRect());
  return boxes.flatMap((a, i) => boxes.slice(i + 1).map((b, j) => [a, b, texts[i], texts[i + 1 + j]]))
    .filter(([a, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
                        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
    .map(([a, b, s, t]) => `${s.textContent.trim()} on ${t.textContent.trim()}`);
})"""


@pytest.mark.parametrize("name", ["seven", "full"])
def test_labels_do_not_run_into_each_other(visit, name: str) -> None:
    page = visit(name, PHONE)
    page.evaluate(UNFOLD)
    assert page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize(("name", "cells"), [("seven", 12 * 8 * 7), ("full", 15 * 8 * 6)])
def test_ids_are_unique_and_links_lead_to_them(visit, name: str, cells: int) -> None:
    page = visit(name)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))
    links = page.evaluate("[...document.querySelectorAll('a')].map(link => link.getAttribute('href'))")
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert sum(link.startswith("#cell-") for link in links) == cells, "every cell of every matrix"


def test_cell_of_the_matrix_leads_to_its_examples(visit) -> None:
    page = visit("four")
    cell = page.locator("svg.figure a").nth(1)
    assert cell.locator("title").text_content().startswith("Gaussian blur, random inpainting: ")
    assert "n = 16" in cell.locator("title").text_content()
    cell.click()
    target = page.locator(":target")
    assert target.locator("strong").text_content() == "Gaussian blur encoder"
    assert target.locator("img").count() == 6
    assert target.evaluate(
        "e => [...document.querySelectorAll('h3')].filter("
        "h => h.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING).at(-1).textContent"
    ) == "Tested on random inpainting"  # fmt: skip
    assert 0 <= target.bounding_box()["y"] < DESK[1]
    assert target.evaluate("e => getComputedStyle(e).backgroundColor") != "rgba(0, 0, 0, 0)"


UNSORTED = 1
"""The column of a table whose figures do not come in order."""

COLUMN = """([table, column]) => [...document.querySelectorAll("table")[table].tBodies[0].rows].map(
  row => column ? Number(row.cells[column].dataset.value) : row.cells[0].textContent)"""


def test_tables_sort_by_keyboard_and_say_so(visit) -> None:
    page = visit("seven")
    written, labels = page.evaluate(COLUMN, [0, UNSORTED]), page.evaluate(COLUMN, [0, 0])
    assert written != sorted(written)
    headings = page.locator("table").first.locator("th[scope=col]")
    headings.nth(UNSORTED).locator("button").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(COLUMN, [0, UNSORTED]) == sorted(written)
    assert headings.nth(UNSORTED).get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert page.evaluate(COLUMN, [0, UNSORTED]) == sorted(written, reverse=True)
    assert headings.nth(UNSORTED).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert page.evaluate(COLUMN, [0, 0]) == labels
    assert headings.nth(UNSORTED).get_attribute("aria-sort") is None
    headings.nth(0).locator("button").click()
    assert page.evaluate(COLUMN, [0, 0]) == sorted(labels, key=str.lower)
    assert page.locator("th[aria-sort]").count() == 1


def test_rows_without_a_figure_stay_last(visit) -> None:
    page = visit("four")
    cell = page.locator("table").first.locator("tbody tr").first.locator("td").first
    cell.evaluate("cell => { cell.dataset.value = 'nan'; }")
    label = page.evaluate(COLUMN, [0, 0])[0]
    for _ in range(2):
        page.locator("table").first.locator("button").nth(1).click()
        assert page.evaluate(COLUMN, [0, 0])[-1] == label


def test_page_is_whole_without_scripts(visit) -> None:
    page = visit("four", java_script_enabled=False)
    assert page.locator("th button").count() == 0
    assert page.locator("table tbody tr").first.is_visible()
    assert page.locator("svg.figure").first.is_visible()


# contrast of text with what it stands on, WCAG 2 (relative luminance); translucent ink is laid over the ground first
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (ground, colour, opacity = 1) => {
    canvas.globalAlpha = 1; canvas.fillStyle = ground; canvas.fillRect(0, 0, 1, 1);
    canvas.globalAlpha = opacity; canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = values => values.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((p, q) => p - q);
    return (high + .05) / (low + .05);
  };
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "white";
  };
  const page = [...document.querySelectorAll("h1, h2, p, li, th, td, small, figcaption, dt, dd, summary, a, code")]
    .filter(e => e.checkVisibility() && !e.closest("svg"))
    .map(e => [e.textContent.trim().slice(0, 40),
               contrast(rgb(ground(e), getComputedStyle(e).color), rgb(ground(e), ground(e)))]);
  // labels outside the coloured cells, which take the page's own colour
  const labels = [...document.querySelectorAll("svg.figure text")]
    .filter(e => e.style.fill !== "" && /currentcolor/i.test(e.style.fill))
    .map(e => [e.textContent.trim(), contrast(
      rgb(ground(e), getComputedStyle(e).fill, Number(getComputedStyle(e).opacity)), rgb(ground(e), ground(e)))]);
  return { page, labels };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["four", "index"])
def test_text_has_contrast_in_both_schemes(visit, name: str, scheme: str) -> None:
    page = visit(name, color_scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found["page"]) > 10
    assert bool(found["labels"]) == (name == "four")
    for text, contrast in found["page"] + found["labels"]:
        assert contrast >= 4.5, text
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = sum(int(part) for part in background.strip("rgb()").split(",")) < 3 * 64
    assert dark == (scheme == "dark")


def test_prints_in_black_on_white_with_everything_unfolded(visit) -> None:
    page = visit("seven", (A4_WIDTH, 1100), color_scheme="dark")
    assert page.locator("details[open]").count() == 0
    hidden = page.locator("pre.settings, details dl").first
    assert not hidden.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert all(page.evaluate("[...document.querySelectorAll('details > :not(summary)')].map(e => e.offsetHeight > 0)"))
    widths = page.evaluate(
        "[...document.querySelectorAll('svg.figure, table')].map(e => e.getBoundingClientRect().width)"
    )
    assert max(widths) <= A4_WIDTH
    assert page.evaluate(
        "[...document.querySelectorAll('.plot, .table')].every(e => e.scrollWidth <= e.clientWidth + 1)"
    )
    assert page.evaluate("getComputedStyle(document.querySelector('.plot')).breakInside") == "avoid"
    document = page.pdf(format="A4")
    assert document.startswith(b"%PDF-")
    assert document.count(b"/Type /Page\n") >= 3
    assert page.locator("details[open]").count() == 0, "folded again after printing"


def test_index_leads_to_each_page(visit) -> None:
    page = visit("index")
    assert page.locator("article").count() == 3
    assert "costs" in page.locator("article li").first.text_content()
    page.locator("article h2 a").first.click()
    page.wait_for_url("**/robustness/four/report/index.html")
    assert page.locator("h1").text_content().startswith("Does a severity encoder")


def test_a_section_in_a_notebook_takes_its_colours_and_leaves_the_rest_alone(browser) -> None:
    table = "<table><tbody><tr><td>1</td></tr></tbody></table>"
    section = sections.cost_section(study.read(make_results(4)))._repr_html_()
    page = browser.new_page()
    page.set_content(f'<body style="color: rgb(250, 240, 230)">{table}{section}</body>')
    colour = "document.querySelector('svg.figure text').computedStyleMap().get('fill').toString()"
    assert page.evaluate(colour) == "rgb(250, 240, 230)"
    padding = "[...document.querySelectorAll('td')].map(cell => getComputedStyle(cell).paddingLeft)"
    outside, inside, *_ = page.evaluate(padding)
    assert outside == "1px"
    assert inside == "12.8px"
    page.close()
