"""The page in a real browser: it fits its window, asks for nothing, and works without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser
from mllmrisk import report
from report_run import make_run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_run(tmp_path_factory.mktemp("page") / "run")
    return report.render(root)[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.mark.parametrize("width", [400, 768, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_fits_asks_for_nothing_and_complains_of_nothing(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.ask("document.documentElement.scrollWidth") == width, "the page scrolls sideways"
    assert (
        browser.ask("document.title") == "Both dimensions on the same images: fake image synthesis and unsafe content."
    )
    addresses = {address for address in browser.requests() if not address.startswith("data:")}
    assert addresses == {page.resolve().as_uri()}
    assert browser.complaints() == []
    assert browser.ask("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")


@pytest.mark.parametrize("width", [400, 1280])
def test_no_text_is_cut_by_its_cell(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    browser.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    cut = browser.ask(
        "[...document.querySelectorAll('th, td, .answer, dd, dt, h1, h2, h3')]"
        ".filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent.slice(0, 80))"
    )
    assert cut == []


def test_no_label_leaves_its_drawing(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    outside = browser.ask(
        "[...document.querySelectorAll('svg text')].filter((t) => {"
        " const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();"
        " return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1; })"
        ".map((t) => t.textContent)"
    )
    assert outside == []


_CONTRAST = """
(() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m[3] ?? 1 }; };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.a === 1) return c.rgb; } return parse(getComputedStyle(document.body).backgroundColor).rgb; };
  const low = [];
  const told = document.querySelectorAll('p, b, small, code, th, td, dd, dt, h1, h2, h3, a, summary, .warning, .none');
  for (const e of told) {
    const [x, y] = [light(parse(getComputedStyle(e).color).rgb), light(behind(e))].sort((a, b) => b - a);
    if ((x + 0.05) / (y + 0.05) < 4.5) low.push(e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 40));
  }
  return [...new Set(low)].slice(0, 10);
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    assert browser.ask(_CONTRAST) == []


def test_tables_sort_and_filter(browser: Browser, page: Path) -> None:
    browser.open(page)
    values = "Array.from(document.querySelector('#detection table').tBodies[0].rows, (r) => +r.cells[1].dataset.order)"
    original = browser.ask(values)
    click = "document.querySelector('#detection table thead th:nth-child(2) button').click()"
    browser.ask(click)
    assert browser.ask(values) == sorted(original, reverse=True)
    browser.ask(click)
    assert browser.ask(values) == sorted(original)
    browser.ask(click)
    assert browser.ask(values) == original
    browser.ask(
        "(() => { const i = document.querySelector('#detection input'); i.value = 'kolors';"
        " i.dispatchEvent(new Event('input')); })()"
    )
    shown = "Array.from(document.querySelector('#detection table').tBodies[0].rows).filter((r) => !r.hidden).length"
    assert browser.ask(shown) == 1


def test_every_generator_has_its_panel_of_levels(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    titles = browser.ask("[...document.querySelectorAll('#richness svg text.bold')].map((t) => t.textContent)")
    assert len(titles) == 8
    assert browser.ask("document.querySelectorAll('#richness svg .bar').length") == 8 * 3
    assert browser.ask("document.querySelectorAll('#richness table').length") == 4


def test_reads_without_scripts(browser: Browser, page: Path) -> None:
    browser.open(page)
    with_scripts = browser.ask("document.querySelectorAll('td').length")
    browser.open(page, scripts=False)
    assert browser.ask("document.querySelectorAll('thead button').length") == 0
    assert browser.ask("document.querySelectorAll('td').length") == with_scripts
    assert browser.ask("document.querySelectorAll('#answer .verdict').length") >= 6


def test_prints(browser: Browser, page: Path) -> None:
    browser.open(page, width=720)  # A4 between its margins
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.ask("document.documentElement.scrollWidth") == 720, "paper cannot scroll"
        assert browser.ask("getComputedStyle(document.querySelector('nav')).display") == "none"
        pdf = browser.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)["data"]
        assert len(pdf) > 10_000
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
