"""The pages of sweeps and of two runs side by side, of documents made by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from reports.output import against_page, image_rows, sweep_page


def point(guidance, steps, distance, halves, sampler="ddim", step=6):
    return {
        "step": step, "protocol": f"p{guidance}{steps}", "network_calls": 2 * steps,
        "settings": {"guidance": guidance, "steps": steps, "sampler": sampler},
        "distance": distance, "halves": halves,
        "metrics": {"fd_digits": distance, "fd_digits_interval": [distance - 1, distance + 1]},
        "behind_the_best": {"difference": distance - 3.0, "standard_error": 0.125},
    }


@pytest.fixture
def document():
    dropped = point(9.0, 50, 40.0, None)
    for key in ("halves", "metrics", "behind_the_best"):
        del dropped[key]
    return {
        "run": "tiny <b>", "metric": "fd_digits", "n_samples": 200, "prompts": ["a one", "a two"],
        "points": [
            point(1.5, 10, 5.0, [5.5, 6.25]), point(2.0, 50, 3.0, [4.5, 4.75], "dpm"),
            point(2.0, 10, 7.0, [7.5, 7.0]), {**dropped, "dropped_after": 50},
        ],
        "front": [0, 1], "best": 1, "chosen": 1,
    }


IMAGES = np.full((2, 64, 64, 3), 90, np.uint8)


def test_the_page_shows_front_choice_and_what_was_dropped(document):
    made = sweep_page.files(document, {1: IMAGES, 0: IMAGES})
    assert list(made) == ["front.png", "side-by-side.png", "sweep.md", "sweep.html"]
    text, page = made["sweep.md"].decode(), made["sweep.html"].decode()
    assert "FD (digits) 4.5 there and 4.75 on the other half" in text
    front = text[text.index("## Quality against cost"):text.index("## Every point")]
    assert "| guidance 1.5, steps 10, sampler ddim | 20 | 5 | 2 +- 0.12 | 4 to 6 |" in front
    assert "sampler dpm (chosen) | 100 | 3 | the best | 2 to 4 |" in front
    assert "guidance 2, steps 10" not in front and "guidance 2, steps 10" in text
    assert "| guidance 9, steps 50, sampler ddim | 100 | 40 | 50 |" in text
    assert "| 1 | a one |\n| 2 | a two |" in text
    assert "tiny <b>" not in page and page.count("data:image/png") == 2
    Image.open(io.BytesIO(made["front.png"])).verify()


def test_a_sweep_of_checkpoints_names_them(document):
    assert "checkpoint" not in sweep_page.label(document, document["points"][0])
    document["points"][2]["step"] = 3
    assert sweep_page.label(document, document["points"][2]).endswith("checkpoint 3")


def test_rows_of_images_stand_one_above_the_other_and_are_few_and_small():
    large = np.full((3, 256, 256, 3), 90, np.uint8)
    rows = {f"row {i}": large for i in range(image_rows.MOST_ROWS + 3)}
    image = Image.open(io.BytesIO(image_rows.picture(rows)))
    assert image.size == (3 * 132 + 4, image_rows.MOST_ROWS * (128 + 20))
    assert image.getpixel((60, 80)) == (90, 90, 90) and image.getpixel((1, 80)) == (255,) * 3
    image_rows.picture({"步 é": IMAGES})  # a label of any letters


@pytest.mark.parametrize(("verdict", "said"), [
    ("better", "is better than B"), ("undecided", "is not to be told from B"),
])
def test_the_page_of_a_pair_says_the_verdict_and_every_look(verdict, said):
    look = {"a": 3.0, "b": 4.0, "difference": -1.0, "standard_error": 0.25, "low": -2.0,
            "high": 0.5, "degrees": 31}
    document = {
        "runs": ["one", "two"], "steps": [6, 3], "metric": "fd_digits", "bound": "Bonferroni",
        "protocol": "digits-ddim20", "planned": [50, 100, 200], "minimum_effect": 0.03,
        "error_rate": 0.05, "samples": 100, "verdict": verdict, "prompts": ["a one", "a two"],
        "looks": [{**look, "samples": 50}, {**look, "samples": 100, "high": -0.5}],
    }
    made = against_page.files(document, {"A: one": IMAGES, "B: two": IMAGES})
    text = made["against.md"].decode()
    assert said in text and "after 100 of at most 200 pairs" in text
    assert "| 50 | 3 | 4 | -1 +- 0.25 | -2 to 0.5 |" in text and "-2 to -0.5" in text
    assert list(made)[-1] == "against.html"
