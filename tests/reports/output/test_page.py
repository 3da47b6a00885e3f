"""report.html in a real browser: no errors, nothing fetched, tables, slider, themes, phone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reports import build
from reports.output import number_formats
from tests.browser import needs_chromium
from tests.reports import fabricate


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    runs = fabricate.pair(root)
    for seed in (1, 2):
        run = fabricate.run(root / f"seed-{seed}", "mid", seed=seed, images_per_second=40.0)
        fabricate.evaluate(run, 200, {"fid": 5.0 + seed}, n_samples=10_000)
    runs.append(fabricate.run(root / "<script><b>&", steps=0))
    for name in ("seed-1", "seed-2"):
        runs.append(root / name)
    out = root / "out"
    return build.write(build.contents(build.build(runs, price=2.0)), out)


class Page:
    """A page of the report with what went wrong on it."""

    def __init__(self, browser, report, width=1280, scheme="light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 850}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.problems, self.requests = [], []
        self.page.on("console", lambda m: self.problems.append(m.text))
        self.page.on("pageerror", lambda e: self.problems.append(str(e)))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(report.as_uri())
        for figure in self.page.query_selector_all("figure.chart"):
            figure.scroll_into_view_if_needed()
            figure.wait_for_selector(".main-svg", timeout=30_000)

    def cells(self, column):
        return self.page.eval_on_selector_all(
            f"#table-comparison tbody tr td:nth-child({column})",
            "cells => cells.map(cell => cell.firstChild.textContent)",
        )

    def column(self, name):
        heads = self.page.eval_on_selector_all(
            "#table-comparison thead tr:last-child th button",
            "heads => heads.map(head => head.firstChild.textContent)",
        )
        return heads.index(name) + 1


@pytest.fixture
def opened(browser, report):
    pages = []

    def open_page(**options):
        pages.append(Page(browser, report, **options))
        return pages[-1]

    yield open_page
    for one in pages:
        local = [url for url in one.requests if url.startswith("data:") or url == report.as_uri()]
        assert one.problems == [] and one.requests == local
        one.context.close()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_both_themes_and_a_phone_show_everything_without_sideways_scrolling(
    opened, tmp_path, scheme, width
):
    page = opened(width=width, scheme=scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert dark == (scheme == "dark")
    assert page.eval_on_selector_all("figure.chart .scatterlayer path", "paths => paths.length")
    # The first screen: all three figures of each run, and nothing of them to scroll to.
    table = "document.querySelector('#glance .scroll')"
    assert page.evaluate(f"{table}.scrollWidth <= {table}.clientWidth")
    page.evaluate("scrollTo(0, 0)")
    folder = Path(os.environ.get("HARNESS_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"report-{scheme}-{width}.png", full_page=True)


@needs_chromium
def test_sections_fold(opened):
    page = opened().page
    table = page.locator("#comparison table")
    assert table.is_visible()
    page.click("#comparison summary")
    assert not table.is_visible()


@needs_chromium
def test_theme_button_overrides_the_system(opened):
    page = opened(scheme="dark").page
    for name, ground in (("light", "rgb(252, 252, 251)"), ("dark", "rgb(20, 23, 27)")):
        page.click("#theme")
        assert page.inner_text("#theme") == f"Theme: {name}"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground


@needs_chromium
def test_tables_sort_both_ways_with_empty_cells_last_and_filter(opened):
    page = opened()
    column = page.column("Images/s")
    head = f"#table-comparison thead tr:last-child th:nth-child({column})"
    for order in ("descending", "ascending"):
        page.page.click(f"{head} button")
        assert page.page.get_attribute(head, "aria-sort") == order
        *numbers, empty = page.cells(column)
        values = [float(text.replace(",", "")) for text in numbers]
        assert values == sorted(values, reverse=order == "descending")
        assert empty == number_formats.NOTHING
    page.page.fill("input.filter[data-table=comparison]", "small deep")
    shown = page.page.eval_on_selector_all(
        "#table-comparison tbody tr:not([hidden]) td:first-child", "c => c.map(x => x.textContent)"
    )
    assert shown == ["small_deep"]


@needs_chromium
def test_slider_changes_every_runs_samples(opened):
    page = opened().page
    images = "#samples .samples:first-of-type figure[data-run] img"
    sources = "all => all.map(one => one.src)"
    last = page.eval_on_selector_all(images, sources)
    page.eval_on_selector(
        "#slider-0", "one => { one.value = 0; one.dispatchEvent(new Event('input')); }"
    )
    first = page.eval_on_selector_all(images, sources)
    assert len(last) == 2 and all(a != b for a, b in zip(first, last, strict=True))
    assert page.inner_text("output[for=slider-0]") == "0"
    assert page.inner_text("figure[data-run=small_deep] .at") == "step 0"


@needs_chromium
def test_curves_switch_to_device_hours_and_runs_can_be_hidden(opened):
    page = opened().page
    loss = "document.querySelector('figure[data-chart=loss] .plot')"
    before = page.evaluate(f"{loss}.data.length")
    page.click("button[data-axis=hours]")
    assert page.evaluate(f"{loss}.layout.xaxis.title.text") == "device-hours"
    assert page.evaluate(f"Math.max(...{loss}.data[0].x)") < 1
    page.click(".legend button:first-child")
    assert page.evaluate(f"{loss}.data.length") == before - 1


def test_page_is_one_file_that_asks_for_nothing(report):
    text = report.read_text()
    markup = text.split("<script>")[0]
    assert "http://" not in markup and "https://" not in markup and "default-src 'none'" in markup
    assert len(text) < 15e6
    # A run may be called anything; its name is text, never markup.
    assert "<b>&" not in markup and "&lt;script&gt;&lt;b&gt;&amp;" in markup
    data = markup.split('id="data">')[1].split("</script>")[0]
    assert {chart["kind"] for chart in json.loads(data)["charts"]} == {"curves", "scatter"}
