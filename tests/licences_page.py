"""`python -m tests.licences_page > docs/licences.md`: what is installed, and its licence."""

from __future__ import annotations

import re
import sysconfig
from importlib import metadata
from pathlib import Path

LOCK = Path(__file__).parents[1] / "locks" / "paddle2.6-cpu.lock"
HEAD = """# Licences of what is installed

Everything that `make install` puts beside the harness (whose own is [LICENSE](../LICENSE)), as each
package's own metadata says; made by `python -m tests.licences_page`. Nothing of them is
copied into this repository. The GPU builds add NVIDIA's CUDA libraries, under NVIDIA's terms.

| package | licence |
| --- | --- |
"""
# What packages say at length, or only by a classifier, by its short name (SPDX).
_SHORT = (
    ("Apache", "Apache-2.0"), ("MIT", "MIT"), ("BSD-2", "BSD-2-Clause"),
    ("BSD-3", "BSD-3-Clause"), ("BSD", "BSD"),
    ("ISC", "ISC"), ("Mozilla", "MPL-2.0"), ("MPL", "MPL-2.0"), ("Python Software", "PSF-2.0"),
    ("PSF", "PSF-2.0"), ("LGPL", "LGPL"), ("Lesser General", "LGPL"), ("NVIDIA", "NVIDIA"),
    ("Unlicense", "Unlicense"), ("HPND", "HPND"), ("Zlib", "Zlib"), ("zlib", "Zlib"),
    ("GNU General", "GPL"), ("GPL", "GPL"),
)


def locked() -> list[str]:
    """Names in the default stack's lock, sorted, less those that this Python does not need."""
    names = set(re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text(), re.M))
    here = [sysconfig.get_path("purelib")]  # sys.path may hold what setuptools has vendored
    return sorted(
        name for name in names if next(metadata.distributions(name=name, path=here), None))


def licence(package: str) -> str:
    """What `package` says of itself, in a word; 'not said' if nothing."""
    about = metadata.metadata(package)
    said = [about.get("License-Expression") or "", (about.get("License") or "").strip()[:200]]
    said += [c for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    for text in filter(None, said):
        for word, short in _SHORT:
            if word in text:
                return text if text == said[0] else short
    return next((text.splitlines()[0] for text in said if text), "not said")


def is_default_stack() -> bool:
    """Whether what is installed here is what the default stack's lock holds."""
    paddle = re.search(r"^paddlepaddle==([^ ]+)", LOCK.read_text(), re.M)
    return bool(paddle) and "paddlepaddle" in locked() and metadata.version(
        "paddlepaddle") == paddle[1]


def page() -> str:
    """The whole page."""
    rows = [f"| {name} | {licence(name)} |\n" for name in locked()]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
