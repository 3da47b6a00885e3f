import numpy as np
import paddle
import pytest

from models.cpu import row_threads


@pytest.mark.parametrize("threads", ["1", "2", "5", "2,1"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 100])
def test_shared_does_every_item_once(monkeypatch, threads, count):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    done = [0] * count

    def work(start, stop):
        for item in range(start, stop):
            done[item] += 1

    row_threads.shared(work, count)
    assert done == [1] * count


def test_an_error_of_any_part_comes_out(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    def work(start, stop):
        if stop == 9:
            raise ValueError("the last part")

    with pytest.raises(ValueError, match="the last part"):
        row_threads.shared(work, 9)


def test_array_shares_the_tensors_memory():
    x = paddle.zeros([2, 3, 4])
    row_threads.array(x)[1, 2] = 7
    assert x.numpy()[1, 2].tolist() == [7] * 4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_copies_stay_when_the_tensors_change(monkeypatch, dtype):
    monkeypatch.setattr(row_threads, "PART", 7)
    random = np.random.default_rng(0)
    values = {str(shape): random.standard_normal(shape).astype(dtype)
              for shape in [(), (1,), (5, 4), (50,)]}
    tensors = {name: paddle.to_tensor(value) for name, value in values.items()}
    found = row_threads.copies(tensors)
    for tensor in tensors.values():
        tensor.set_value(paddle.zeros_like(tensor))
    assert found.keys() == values.keys()
    assert all(np.array_equal(found[n], v) and found[n].shape == v.shape and
               found[n].dtype == v.dtype for n, v in values.items())
