"""What pyproject.toml cannot say: a wheel carries a line that every interpreter runs at its start.

libpaddle.so exports a zlib of its own. Python's comes after it unless it is loaded at once, and
then calls parts of paddle's: Pillow crashes when it writes a PNG. (The editable install's line
is the Makefile's.)
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithZlib(build_py):
    """Puts the .pth file at the root of the wheel, and so into site-packages."""

    def run(self):
        super().run()
        if not self.editable_mode:
            Path(self.build_lib).mkdir(parents=True, exist_ok=True)
            Path(self.build_lib, "uvit_harness_zlib.pth").write_text("import zlib\n")


setup(cmdclass={"build_py": BuildWithZlib})
