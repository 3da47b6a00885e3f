"""Plain archives are read as tarfile reads them; what no plain archive has is refused."""

import io
import tarfile

import pytest

from harness.base.errors import DataError
from harness.files import archive_refusals


def archive(path, form):
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in (("a", b""), ("b/" + "c" * 120 + "/d", b"x" * 700), ("e", b"y" * 512)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_members_and_where_they_lie_are_those_of_tarfile(tmp_path):
    path = archive(tmp_path / "plain.tar", tarfile.USTAR_FORMAT)
    with open(path, "rb") as file:
        read = archive_refusals.members(file, path)
        found = [(one.name, one.size, one.offset_data) for one in read]
    with tarfile.open(path) as tar:
        assert found == [(one.name, one.size, one.offset_data) for one in tar]
    assert [size for _, size, _ in found] == [0, 700, 512]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_extended_headers_are_refused(form, tmp_path):
    path = archive(tmp_path / "extended.tar", form)
    with open(path, "rb") as file, pytest.raises(DataError, match="odd file|no tar archive"):
        list(archive_refusals.members(file, path))
