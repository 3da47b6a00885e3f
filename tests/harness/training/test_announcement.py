from harness.training import announcement
from tests.fixtures import tiny_config

CONFIG = tiny_config("train.max_steps=100", "train.image_steps=20", "train.eval_steps=30",
                     "train.eval_at_start=true", "train.global_batch_size=4")


def told(start, end=100, **made):
    asked = {"images": True, "evaluations": True, **made}
    return announcement.of_training(CONFIG, start=start, end=end, steps_per_epoch=5, **asked)


def test_a_new_run():
    assert told(0) == (
        "ahead: 100 steps of 4 images (20 epochs), 4 evaluations, 5 sample grids"
    )


def test_one_that_goes_on_and_stops_sooner():
    assert told(60, 61) == "ahead: 1 step of 4 images (0.2 epochs), 0 evaluations, 0 sample grids"
    assert told(59, 60) == "ahead: 1 step of 4 images (0.2 epochs), 1 evaluation, 1 sample grid"


def test_without_hooks():
    assert told(0, images=False, evaluations=False).endswith("0 evaluations, 0 sample grids")
