import threading
import time

import numpy as np
import pytest

from harness import data
from harness.data.prefetch import Buffers
from tests.fixtures import draw, tiny_config


def source(directory):
    return data.open_source(tiny_config(), 1, directory)


def parts(count):
    return ((step, range(step * 8, step * 8 + 8)) for step in range(count))


def test_a_buffer_is_used_again_only_when_nobody_holds_it():
    buffers = Buffers(4)
    first = buffers.take((2, 3))
    second = buffers.take((2, 3))
    assert first is not second
    address, view = first.ctypes.data, first[1]
    del first
    assert buffers.take((2, 3)).ctypes.data != address  # the view holds it
    del view
    again = [buffers.take((2, 3)) for _ in range(2)]
    assert address in [array.ctypes.data for array in again]
    assert len({array.ctypes.data for array in again}) == 2


def test_buffers_keep_no_more_than_they_may():
    buffers = Buffers(2)
    held = [buffers.take((1000,)) for _ in range(10)]
    assert len({array.ctypes.data for array in held}) == 10
    held.clear()
    assert len(buffers._arrays) == 2


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_that_are_kept_are_not_written_over(features, workers):
    kept = list(data.prefetch(source(features), parts(12), workers))
    for batch in kept:
        expected = source(features).batch(batch.step, range(batch.step * 8, batch.step * 8 + 8))
        assert batch.context.tobytes() == expected.context.tobytes()


def test_memory_ahead_is_bounded(features):
    """With room for two batches ahead, a third is not begun before one is taken."""
    drawn = source(features)
    begun = []

    class Watched:
        context_shape, batch_bytes = drawn.context_shape, drawn.batch_bytes

        def batch(self, step, numbers, *, context=None):
            begun.append(step)
            return drawn.batch(step, numbers, context=context)

    room = 2 * drawn.batch_bytes(range(8))
    batches = data.prefetch(Watched(), parts(20), 8, ahead_bytes=room)
    for taken in range(1, 15):
        next(batches)
        time.sleep(0.01)
        assert max(begun) + 1 - taken <= 3
    batches.close()


def test_drawing_is_done_off_the_consumers_thread(features):
    drawn = source(features)
    threads = set()

    class Watched:
        context_shape, batch_bytes = drawn.context_shape, drawn.batch_bytes

        def batch(self, step, numbers, *, context=None):
            threads.add(threading.get_ident())
            return drawn.batch(step, numbers, context=context)

    list(data.prefetch(Watched(), parts(6), 2))
    assert threads and threading.get_ident() not in threads


def test_abandoning_the_batches_leaves_no_thread(features):
    batches = data.prefetch(source(features), parts(100), 3)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("data")]


def test_the_draws_are_the_format(features):
    """Sample 17 of seed 1, drawn here step by step: another order of draws is other data."""
    from harness.base import seeds

    found = source(features)
    latents, noise, timestep, context = draw(found, 17)
    random = seeds.generator(1, "sample", 17)
    image = found.sampling.image(17)
    caption = int(random.integers(2))
    dropped = random.random() < 0.1
    assert timestep == random.integers(1, 1001)
    moments = np.load(features / "train" / f"{image}.npy")
    std = np.exp(np.float32(0.5) * np.clip(moments[4:], -30, 20))
    z = moments[:4] + std * random.standard_normal((4, 8, 8), dtype=np.float32)
    assert np.array_equal(latents, z * np.float32(0.2301))
    assert np.array_equal(noise, random.standard_normal((4, 8, 8), dtype=np.float32))
    expected = np.zeros((4, 16)) if dropped else np.load(
        features / "train" / f"{image}_{caption}.npy"
    )
    assert np.array_equal(context, expected)
