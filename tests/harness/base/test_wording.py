from harness.base.wording import counted


def test_one_is_singular_and_all_else_plural():
    told = [counted(number, "fault") for number in (0, 1, 2, 1000)]
    assert told == ["0 faults", "1 fault", "2 faults", "1,000 faults"]
    assert counted(2, "loss", "losses") == "2 losses" and counted(1, "loss", "losses") == "1 loss"
