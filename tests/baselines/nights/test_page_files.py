"""The history's pages in a real browser: no errors, nothing fetched, filters, a night, notes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from baselines.nights import night_notes, page_data, page_files
from baselines.nights.night_notes import Note
from tests.baselines.nights import made_nights
from tests.browser import needs_chromium

NIGHTS = 60
MINUS = "\N{MINUS SIGN}"
STRANGE = "<script>alert(1)</script>"
SLOW = made_nights.date(NIGHTS // 2)  # of the first config


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    history = made_nights.history(
        root / "history", nights=NIGHTS, configs=("small", "mid", STRANGE))
    night_notes.add(history, Note(SLOW, "<b>known</b>, accepted", "a100", "small", "throughput"))
    night_notes.add(history, Note(made_nights.date(50), "new driver on all"))
    return page_files.write(history, root / "out")


@pytest.fixture
def opened(browser, site):
    """Opens a page of the site by its name and address; afterwards nothing may have gone wrong."""
    contexts, problems, requests = [], [], []

    def open_page(name="index", address="", *, width=1280, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 850}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: problems.append(said.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{(site.parent / name).as_uri()}.html{address}")
        return page

    yield open_page
    assert problems == []
    assert all(url.startswith(("data:", site.parent.as_uri())) for url in requests)
    for context in contexts:
        context.close()


def texts(page, selector):
    return page.eval_on_selector_all(selector, "all => all.map(one => one.innerText)")


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_both_themes_and_a_phone_show_everything_without_sideways_scrolling(
    opened, tmp_path, scheme, width
):
    folder = Path(os.environ.get("HARNESS_SCREENSHOTS", tmp_path))
    for name in ("index", "small"):
        page = opened(name, width=width, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(20, 23, 27)") == (scheme == "dark")
        page.screenshot(path=folder / f"history-{name}-{scheme}-{width}.png", full_page=True)
    drawn = "all => all.every(one => one.querySelectorAll('polyline').length == 3)"
    assert page.eval_on_selector_all("figure.chart", drawn)
    assert len(texts(page, "figure.chart")) == 6


@needs_chromium
def test_a_night_says_what_decides_whether_it_is_real(opened):
    page = opened("small", f"#{SLOW}/a100")
    assert page.inner_text("#night h2") == f"Night {SLOW} on a100"
    told = page.inner_text("#told")
    # Rounds, the machine's noise, the commits, the other configs, the note, the other runners.
    (speed,) = (one for one in texts(page, "#told tbody tr") if one.startswith("Throughput"))
    assert "▼ worse" in speed and f"{MINUS}6.0 %" in speed and "usually 1.20 %" in speed
    assert len(speed.split("\t")[5].split(", ")) == 5
    assert "Commits since the night before" in told and "nothing that is recorded" in told
    assert f"So has it for {STRANGE}, mid on this runner" in told
    assert re.search(r"harness bisect small --good \w{40} --bad \w{40} --metric throughput", told)
    assert "<b>known</b>, accepted" in told and "new driver" not in told
    assert texts(page, "#told .scroll:last-child tbody td:first-child") == [
        "a100\npaddle", "cpu\npaddle", "h100\npaddle"]
    assert page.get_attribute("#told a", "href") == f"https://ci.example.org/{SLOW}/a100"
    page.click("#later")
    assert page.inner_text("#night h2") == f"Night {made_nights.date(NIGHTS // 2 + 1)} on a100"


@needs_chromium
def test_a_new_stack_is_named_on_its_night_and_beside_the_change(opened):
    night = made_nights.date(2 * NIGHTS // 3)
    page = opened("small", f"#{night}/cpu")
    assert "package.paddlepaddle\t2.6.2\t3.3.1" in texts(page, "#told tbody tr")
    (change,) = (one for one in texts(page, "#changes tbody tr")
                 if one.startswith(night) and "cpu" in one)
    assert "paddle2.6 → paddle3" in change and f"{MINUS}2.1 % better" in change and "mid" in change


@needs_chromium
def test_filters_leave_what_is_asked_for(opened):
    page = opened("small")
    page.select_option("select[data-filter=runner]", "cpu")
    chart = "figure[data-metric=throughput]"
    assert page.locator(f"{chart} polyline").count() == 1
    assert all("cpu" in one for one in texts(page, "#changes tbody tr"))
    page.select_option("select[data-filter=stack]", "paddle3")
    assert texts(page, "#changes tbody td:nth-child(2)") == ["FID\ncoco-ddim50"]
    page.select_option("select[data-filter=span]", "30")
    labels = page.text_content(f"{chart} svg")
    assert made_nights.date(NIGHTS - 30) in labels and made_nights.date(0) not in labels
    page.select_option("select[data-filter=runner]", "")
    page.select_option("select[data-filter=scale]", "share")
    assert "100 %" in page.text_content(f"{chart} svg")
    index = opened()
    assert len(texts(index, "#latest tbody tr")) == 9
    index.select_option("select[data-filter=config]", STRANGE)
    index.select_option("select[data-filter=runner]", "h100")
    (row,) = texts(index, "#latest tbody tr")
    assert row.startswith(STRANGE) and "✓ passed" in row
    assert len(texts(index, "#changes tbody tr")) == 2


@needs_chromium
def test_a_note_is_beside_its_change_alone(opened):
    page = opened()
    noted = [one for one in texts(page, "#changes tbody tr") if "✓ <b>known</b>, accepted" in one]
    assert len(noted) == 1 and "small" in noted[0] and "a100" in noted[0]
    page.click("#changes tbody tr:has-text('<b>known') a >> nth=1")
    page.wait_for_url(f"**/small.html#{SLOW}/a100")
    assert page.locator("figure[data-metric=throughput] text:text-is('✓')").count() == 1
    assert page.locator("figure[data-metric=throughput] text:text-is('⚑')").count() == 1


@needs_chromium
def test_pointing_at_a_night_tells_its_figures_and_a_click_opens_it(opened):
    page = opened("small")
    plot = page.locator("figure[data-metric=throughput] svg")
    box = plot.bounding_box()
    plot.hover(position={"x": 63, "y": box["height"] / 4})
    assert f"{made_nights.date(0)} on a100: " in page.inner_text("[data-metric=throughput] output")
    plot.click(position={"x": 63, "y": box["height"] / 4})
    assert page.inner_text("#night h2") == f"Night {made_nights.date(0)} on a100"


def test_pages_ask_for_nothing_and_are_small(site):
    for page in site.parent.glob("*.html"):
        text = page.read_text()
        assert "http://" not in text and "https://" not in text and "default-src 'none'" in text
        beside = page.with_suffix(".js").read_text()
        assert len(text) + len(beside) < 2e6
        json.loads(beside.removeprefix("window.HISTORY = ").removesuffix(";\n"))
    assert "&lt;script&gt;alert(1)" in text and STRANGE not in text.replace("</script>", "", 1)


def test_any_config_has_a_page_of_its_own():
    names = ("small", "index", "Index", "../x", ".hidden", "a/b", "ä", "", "x" * 200)
    pages = [page_files.page_name(name) for name in names]
    assert pages[0] == "small" and len(set(pages)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][\w.-]*", page) for page in pages)
    assert "index" not in [page.lower() for page in pages]


def test_names_that_are_no_text_are_written(tmp_path):
    history = made_nights.history(
        tmp_path / "history", nights=2, configs=("\ud800", "__proto__"), runners=("\udc80",))
    written = page_files.write(history, tmp_path / "out").read_text()
    assert r"\ud800" in written and "__proto__" in written


def test_a_report_is_linked_where_it_is(tmp_path):
    history, out = tmp_path / "history", tmp_path / "a" / "site"
    report = tmp_path / "nightly" / "java script:x.html"
    report.parent.mkdir()
    history.mkdir()
    report.write_text("")
    link = page_data.link("../nightly/java script:x.html", history, out)
    assert link == "../../nightly/java%20script%3Ax.html"
    for none in (None, "", "../nightly/gone.html", "javascript:alert(1)"):
        assert page_data.link(none, history, out) == ""
    assert page_data.link("https://example.org/1", history, out) == "https://example.org/1"
