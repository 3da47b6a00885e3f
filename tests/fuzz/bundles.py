"""A study's bundle taken apart and put together again, with an index that fits."""

from __future__ import annotations

import io
import json
import tarfile

from harness.studies import study_bundle
from tests.fuzz.door import made


def parts(data: bytes) -> dict[str, bytes]:
    """Name -> content of everything in a bundle."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        return {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]


def tar(content: dict[str, bytes]) -> bytes:
    """`parts` as a bundle again."""
    index = json.loads(content[study_bundle.INDEX])
    index["files"] = {name: study_bundle._entry(data) for name, data in content.items()
                      if name != study_bundle.INDEX}
    content = {**content, study_bundle.INDEX: json.dumps(index).encode()}

    def fill(file: io.BytesIO) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in content.items():
                study_bundle._add(archive, name, len(data), io.BytesIO(data))

    return made(fill)
