import time

from harness.base import progress
from harness.base.progress import Progress


def test_without_a_terminal_lines_come_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_EVERY", 0.0)
    with Progress(10, "work", start=4, unit="image") as bar:
        bar.advance(2, {"loss": "0.5"})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("work: 6/10 image, ")
    assert lines[0].endswith("left loss: 0.5")


def test_a_pause_is_not_in_the_rate(capsys):
    with Progress(10, "work") as bar:
        with bar.pause():
            time.sleep(0.2)
        bar.advance(5)
    rate = float(capsys.readouterr().err.split(", ")[1].split()[0])
    assert rate > 5 / 0.2


def test_on_a_terminal_a_bar_is_drawn():
    """A real terminal: a pty."""
    import os
    import pty
    import subprocess
    import sys

    from tests.command import environment

    main, terminal = pty.openpty()
    code = "from harness.base.progress import Progress\nwith Progress(3, 'bar') as p: p.advance(3)"
    subprocess.run(
        [sys.executable, "-c", code], stderr=terminal, env=environment(), check=True
    )
    os.close(terminal)
    drawn = os.read(main, 10_000).decode()
    assert "bar" in drawn and "3/3" in drawn and "\r" in drawn


def test_work_goes_on_where_nobody_reads_its_log():
    """`harness train ... 2>&1 | head`: the reader has what it wanted, training has not."""
    import os
    import subprocess
    import sys

    from tests.command import environment

    reader, log = os.pipe()
    os.close(reader)
    code = "from harness.base.progress import say\nsay('a line')\nsay('another')\nprint('done')"
    process = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=log, env=environment(),
    )
    os.close(log)
    assert (process.returncode, process.stdout) == (0, b"done\n")
