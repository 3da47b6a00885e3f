from harness.base import processor_time
from harness.base.processor_time import Ticks

STAT = """cpu  30 0 30 60 0 0 0 30 9 9
cpu0 10 1 10 40 2 3 4 10 9 9
cpu1 20 0 20 20 0 0 0 20 9 9
cpu10 7 7 7 7 7 7 7 7 7 7
intr 5
"""


def test_ticks_are_of_all_processors_or_of_those_named(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(STAT)
    assert processor_time.ticks(tmp_path) == Ticks(all=150, stolen=30, idle=60)
    assert processor_time.ticks(tmp_path, {0}) == Ticks(all=80, stolen=10, idle=42)
    assert processor_time.ticks(tmp_path, {0, 1}) == Ticks(all=160, stolen=30, idle=62)


def test_what_is_torn_or_missing_is_nothing(tmp_path):
    assert processor_time.ticks(tmp_path) == Ticks()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu0 1 2 x")
    assert processor_time.ticks(tmp_path, {0}) == Ticks()
