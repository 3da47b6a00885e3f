"""SECURITY.md and the licences: what they name is there, and what is installed is listed."""

import re

from tests import licences_page
from tests.command import ROOT


def test_every_installed_package_is_listed_with_its_licence():
    listed = set((ROOT / "docs/licences.md").read_text().splitlines())
    made = licences_page.page().splitlines()
    assert len(made) > 100
    # Another stack, or another Python, has a package less or another: none may be unlisted here.
    if licences_page.is_default_stack():
        assert [line for line in made if line not in listed] == [], "make docs/licences.md anew"


def test_what_the_threat_model_names_is_there():
    text = (ROOT / "SECURITY.md").read_text()
    for path in re.findall(r"`((?:tests|locks|docs)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path
    assert "Content-Security-Policy" in (ROOT / "reports/output/templates/frame.html").read_text()
