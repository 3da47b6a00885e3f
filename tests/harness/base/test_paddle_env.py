"""What is set up before paddle is imported."""

import os
import subprocess
import sys

import pytest

from tests.command import environment

WRITES_A_PNG = """
import io
from harness.base import paddle_env
paddle_env.has_gpu_build = lambda: False  # asks importlib.metadata, which imports zlib
paddle_env.require_paddle()
from PIL import Image
Image.new("RGB", (64, 64)).save(io.BytesIO(), format="PNG")
"""


def test_png_files_can_be_written_after_paddle_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", WRITES_A_PNG], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


MADE_ON_IMPORT = """
import os
from harness.base import paddle_env
paddle_env.prepare()
print(os.environ.get("PPNLP_HOME"), os.environ.get("HF_HOME"))
"""


@pytest.mark.parametrize("home, own, expected", [
    ("{0}", {}, "None None"),
    ("/proc/1/cmdline", {}, "{0}/harness-{1}/PPNLP_HOME {0}/harness-{1}/HF_HOME"),
    ("/proc/1/cmdline", {"PPNLP_HOME": "/mine"}, "/mine {0}/harness-{1}/HF_HOME"),
])
def test_another_place_only_where_home_cannot_be_written(home, own, expected, tmp_path):
    variables = {"HOME": home.format(tmp_path), "TMPDIR": str(tmp_path), **own}
    plain = {key: value for key, value in environment(**variables).items()
             if key in own or key not in ("PPNLP_HOME", "HF_HOME", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", MADE_ON_IMPORT], env=plain, capture_output=True, text=True)
    assert done.stdout.strip() == expected.format(tmp_path, os.getuid()), done.stderr


# What the kernel would do, not what Python believes it set.
CAUGHT = """
import signal
from harness.base import paddle_env
def caught(number):
    with open("/proc/self/status") as status:
        mask = next(line.split()[1] for line in status if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
paddle_env.require_paddle()
assert caught(signal.SIGTERM), "after paddle"
import ppdiffusers, paddlenlp
assert caught(signal.SIGTERM), "after ppdiffusers"
assert caught(signal.SIGINT)
assert not caught(signal.SIGSEGV), "a crash ends the process"
"""


def test_imports_leave_the_signals_to_their_handlers():
    done = subprocess.run(
        [sys.executable, "-c", CAUGHT], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
