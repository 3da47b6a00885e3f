import os
from pathlib import Path

from harness.base.wording import counted, shown


def test_one_is_singular_and_all_else_plural():
    told = [counted(number, "fault") for number in (0, 1, 2, 1000)]
    assert told == ["0 faults", "1 fault", "2 faults", "1,000 faults"]
    assert counted(2, "loss", "losses") == "2 losses" and counted(1, "loss", "losses") == "1 loss"


def test_a_path_is_shown_as_utf_8_whatever_else_its_bytes_are():
    assert shown(Path(os.fsdecode("rün".encode()))) == "rün"
    assert shown(os.fsdecode(b"r\xfcn")) == "r\\xfcn"
