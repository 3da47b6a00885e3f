"""Every page we write, with names and captions as others have them: long, many, right to left.

No fault of axe-core, light and dark; nothing is cut, overlaps or lies beside the page.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from baselines import ab_compare, ab_page
from baselines.nights import night_notes, page_files
from baselines.nights.night_notes import Note
from harness.doctor import acceptance_page
from harness.studies import study_figures, study_report
from reports import build
from reports.output import against_page, sweep_page
from tests.baselines import made
from tests.baselines.nights import made_nights
from tests.browser import AXE, needs_axe, needs_chromium
from tests.harness.studies import made_studies
from tests.reports import fabricate

ARABIC = "قطة رمادية نائمة على كرسي أحمر (صورة 12)، بجانب نافذة."
HEBREW = "ילד רוכב על אופניים כחולים, 3 כלבים רצים אחריו!"
LONG = "a photograph of a very crowded street market in the rain, seen from above, " * 8
UNBROKEN = "a_prompt_without_a_single_blank_" * 10
PROMPTS = (ARABIC, LONG, HEBREW, UNBROKEN)
NAMES = (
    "small-lr2e-4-warmup5000-bs256-ema0.9999-bf16-fused-kernels-seed1234-second-attempt-after-the-"
    "power-cut-of-tuesday", ARABIC, "אימון ארוך, ניסיון 3", "no_blank" * 12,
)  # fmt: skip
PAGES = {
    "report": "report/report.html", "four": "four/report.html", "index": "site/index.html",
    "config": "site/small.html", "study": "study/study.html", "ab": "ab/ab.html",
    "sweep": "sweep/sweep.html", "against": "against/against.html",
    "acceptance": "acceptance/acceptance.html",
}  # fmt: skip
FITTED = """() => [...document.querySelectorAll('.main-svg')].every(one =>
    Math.abs(one.getBoundingClientRect().width - one.closest('.plot').clientWidth) < 2)"""
LAYOUT = (Path(__file__).parent / "layout.js").read_text()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder with PAGES."""
    out, root = tmp_path_factory.mktemp("pages"), tmp_path_factory.mktemp("runs")
    runs = [a_run(root / (NAMES + tuple(f"run {i} of a sweep over learning rates, at 1e-{i}"
                                        for i in range(4, 30)))[i], i) for i in range(30)]
    for name, some in (("report", runs), ("four", runs[:4])):
        build.write(build.contents(build.build(some, price=2.0)), out / name)
    history = made_nights.history(
        root / "history", nights=40, configs=("small", *NAMES[:2]), runners=("a100", *NAMES[:3]))
    night_notes.add(history, Note(made_nights.date(20), LONG[:400], "a100", "small", "throughput"))
    page_files.write(history, out / "site")
    study = made_studies.study(root, without=("digits_tiny_deep-s3",))
    build.write(study_report.files(study_figures.read(study)), out / "study")
    ab_page.write(ab_compare.judge({
        side: made.several(root, side, speeds=tuple(share * one for one in made.SPEEDS))
        for side, share in (("a", 1.0), ("b", 0.9))}), out / "ab")
    images = {name: np.full((4, 64, 64, 3), 90, np.uint8) for name in NAMES}
    build.write(sweep_page.files(a_sweep(), {0: images[ARABIC], 1: images[ARABIC]}), out / "sweep")
    build.write(against_page.files(a_comparison(), images), out / "against")
    acceptance_page.write({
        "config": NAMES[0], "steps": 60, "commit": "d" * 40, "said": {"speed.txt": UNBROKEN},
        "promises": [{"name": name, "met": met, "figure": "1.2e-7", "bound": "1e-5", "check": LONG}
                     for name, met in zip(NAMES, (True, False, None, True), strict=True)],
        "findings": [{"what": "disk", "status": "missing", "detail": UNBROKEN, "remedy": HEBREW}],
        "fingerprint": {"device": "a CPU", "env.PATH": "/usr/local/a_folder_of_many:" * 20},
    }, out / "acceptance")  # fmt: skip
    return out


def a_run(directory, i):
    fabricate.run(
        directory, ("small", "small_deep", "mid")[i % 3], seed=i, images_per_second=130.0 - 3 * i,
        steps=60, device="NVIDIA A100-SXM4-80GB", device_bytes=int((9 + i / 4) * 1e9),
        driver=f"550.{i}",
    )
    for step in (30, 60):
        fabricate.evaluate(directory, step, {
            "fid": 9 + i / 3 + 60 / step, "precision": 0.7, "val_loss": 0.1 + i / 1000,
        }, n_samples=10_000 if i % 5 == 4 else 30_000)  # fmt: skip
        fabricate.samples(directory, step, noise=30 / step / 2, prompts=PROMPTS)
    return directory


def a_sweep():
    points = [{
        "step": 60, "network_calls": 20 * (i + 1), "distance": 5.0 - i, "halves": [5.5, 6.25],
        "settings": {"guidance": 1.5 + i, "steps": 10, "sampler": "ddim"},
        "metrics": {"fid_interval": [4.0, 6.0]},
        "behind_the_best": {"difference": 1.0 - i, "standard_error": 0.125},
    } for i in range(2)]  # fmt: skip
    return {"run": NAMES[0], "metric": "fid", "n_samples": 200, "prompts": PROMPTS, "front": [0, 1],
            "points": points, "best": 1, "chosen": 1}


def a_comparison():
    look = {"samples": 50, "a": 3.0, "b": 4.0, "difference": -1.0, "standard_error": 0.25,
            "low": -2.0, "high": -0.5}
    return {
        "runs": NAMES[:2], "steps": [6, 3], "metric": "fid", "bound": "Bonferroni", "looks": [look],
        "protocol": "digits-ddim20", "planned": [50], "minimum_effect": 0.03, "error_rate": 0.05,
        "samples": 50, "verdict": "better", "prompts": PROMPTS,
    }  # fmt: skip


@pytest.fixture(scope="module", params=PAGES)
def page(request, browser, pages):
    """A page with all its charts drawn and all its sections open."""
    context = browser.new_context()
    page = context.new_page()
    page.goto((pages / PAGES[request.param]).as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    draw(page)
    yield page
    context.close()


def draw(page):
    for figure in page.query_selector_all("figure.chart"):
        figure.scroll_into_view_if_needed()
        figure.wait_for_selector(".plot svg")
    page.evaluate("scrollTo(0, 0)")


@needs_chromium
@needs_axe
@pytest.mark.parametrize("page", [*PAGES][1:], indirect=True)  # many runs take axe a minute
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(page, scheme):
    page.set_viewport_size({"width": 390, "height": 850})  # where the most has to be scrolled
    page.emulate_media(color_scheme=scheme)
    for hidden in page.query_selector_all(".legend button[aria-pressed=true]")[:1]:
        hidden.click()
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run({ resultTypes: ['violations'], rules: { 'target-size': { enabled: true } } })")
    assert len(found["passes"]) > 15
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]
            if one["impact"] in ("serious", "critical")] == []


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280, 1920, "print"])
def test_nothing_is_cut_or_overlaps(page, width, request):
    printed = width == "print"
    page.set_viewport_size({"width": 718 if printed else width, "height": 850})  # A4 in its margins
    page.emulate_media(media="print" if printed else "screen", color_scheme="light")
    if printed:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
    draw(page)
    if not printed:
        page.wait_for_function(FITTED)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = page.evaluate(LAYOUT)
    if folder := os.environ.get("HARNESS_SCREENSHOTS"):
        name = request.node.callspec.id
        page.screenshot(path=Path(folder) / f"page-{name}.png", full_page=True)
    if printed:
        page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert found["texts"] > 20 and found["faults"] == []


@needs_chromium
def test_four_runs_fit_into_the_first_table(browser, pages):
    page = browser.new_page(viewport={"width": 1280, "height": 850})
    page.goto((pages / PAGES["four"]).as_uri())
    table = "#glance .scroll"
    assert page.eval_on_selector(table, "one => one.scrollWidth <= one.clientWidth")
    assert page.locator(f"{table} tbody tr").count() == 4
    page.close()
