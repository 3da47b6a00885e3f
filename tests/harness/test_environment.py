"""What is set up before paddle is imported."""

import subprocess
import sys

from tests.command import environment

WRITES_A_PNG = """
import io
from harness import environment
environment.has_gpu_build = lambda: False  # asks importlib.metadata, which imports zlib
environment.require_paddle()
from PIL import Image
Image.new("RGB", (64, 64)).save(io.BytesIO(), format="PNG")
"""


def test_png_files_can_be_written_after_paddle_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", WRITES_A_PNG], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
