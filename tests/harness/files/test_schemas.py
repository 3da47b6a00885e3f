"""Every file that is written has a version, a schema and a row on a page."""

import copy
import json
import re
import shutil

import pytest
from jsonschema import Draft202012Validator

from baselines import check_table, record
from baselines.nights import kept_nights, night_notes
from eval.evaluation import fid
from harness import runs
from harness.conversion import exporting
from harness.data import identity, packed_reading
from harness.digits import dataset
from harness.doctor import acceptance
from harness.runs import checkpoints
from harness.studies import study_bundle, study_directory
from reports import build
from tests import file_schemas
from tests.command import ROOT
from tests.corpus import make

PAGE = (ROOT / "docs" / "file-formats.md").read_text()
OWN = sorted(set(file_schemas.SCHEMAS) - {"shared"})
# What says its version itself, or is of the first; the others have that of the file that they are
# beside or in.
VERSIONS = {
    "run": runs.SCHEMA, "manifest": checkpoints.SCHEMA, "result": runs.RESULT_SCHEMA,
    "baseline": record.SCHEMA, "packed": packed_reading.SCHEMA, "digest": identity.SCHEMA,
    "digits": dataset.SCHEMA, "export": exporting.SCHEMA, "report": build.SCHEMA,
    "statistics": fid.SCHEMA, "acceptance": acceptance.SCHEMA,
    "study": study_directory.SCHEMA, "cell-state": study_directory.STATE_SCHEMA,
    "bundle": study_bundle.SCHEMA, "night": kept_nights.SCHEMA,
    "figures": kept_nights.FIGURES_SCHEMA, "check": check_table.SCHEMA,
    "notes": night_notes.SCHEMA,
}
BESIDE = {"metrics": "run", "timing": "run", "state": "manifest", "repeats": "result",
          "captions": "packed"}
CORPUS = sorted(make.HERE.glob("*/history"))[-1].with_name("run")
WRITTEN = [
    "run/run.json", "run/checkpoints/*6/manifest.json", "run/checkpoints/*6/state.json",
    "run/eval/*/result.json", "baseline.json", "packed/packed.json", "study/study.json",
    "study/state/corpus-base-s1.json", "study/bundle.json", "history/*/smoke/night.json",
    "history/*/smoke/figures.json", "history/*/smoke/checks/digits_tiny.json",
    "history/notes.jsonl",
]


@pytest.mark.parametrize("name", file_schemas.SCHEMAS)
def test_a_schema_is_one_and_closed_wherever_it_names_keys(name):
    Draft202012Validator.check_schema(file_schemas.SCHEMAS[name])

    def parts(value):
        if isinstance(value, dict):
            yield value
        for inside in value.values() if isinstance(value, dict) else value:
            if isinstance(inside, dict | list):
                yield from parts(inside)

    for part in parts(file_schemas.SCHEMAS[name]):
        if part.get("type") == "object" and "properties" in part:
            assert part["additionalProperties"] is False, part


def test_the_newest_schema_is_of_the_version_that_is_written():
    kinds = {name.rpartition("-")[0] for name in OWN}
    assert kinds == VERSIONS.keys() | BESIDE.keys()
    for kind, version in VERSIONS.items():
        assert file_schemas.versions(kind)[-1] == version, kind
        for one in file_schemas.versions(kind):
            said = file_schemas.SCHEMAS[f"{kind}-{one}"]["properties"]["schema"]
            assert said == {"const": one}, kind
    for kind, other in BESIDE.items():
        assert file_schemas.versions(kind) == [1] and VERSIONS[other] == 1, kind


def test_the_page_has_each_of_them_with_its_version():
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) \|.*\]\(\.\./harness/files/schemas/([\w-]+)\.json\)",
                      PAGE, re.M)
    assert sorted(name for _, _, name in rows) == OWN
    assert all(name.endswith(f"-{version}") for _, version, name in rows)
    names = {path.rpartition("/")[2] for path, _, _ in rows}
    assert names >= file_schemas.KINDS.keys() - {"baseline.json"}
    assert {path.rpartition("/")[0] for path, _, _ in rows} >= file_schemas.FOLDERS.keys()


def test_the_pages_reader_runs(monkeypatch):
    monkeypatch.chdir(CORPUS)
    exec(PAGE.partition("```python\n")[2].partition("```")[0], {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All that a version wrote, the study of its bundle laid out."""
    copy = shutil.copytree(CORPUS.parent, tmp_path_factory.mktemp("corpus") / "written")
    make.lay_out_study(copy)
    return copy


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_planted_is_found(name, folder, tmp_path):
    (path,) = folder.glob(name)
    sound = json.loads(path.read_text())
    planted = [{**sound, "planted": 1}, {key: sound[key] for key in list(sound)[1:]}]
    for key, inside in sound.items():
        if isinstance(inside, dict) and key not in ("config", "model", "diffusion"):
            planted.append({**copy.deepcopy(sound), key: {**inside, "planted": 1}})
    for number, value in enumerate(planted):
        wrong = tmp_path / str(number) / path.parent.name / path.name
        wrong.parent.mkdir(parents=True)
        wrong.write_text(json.dumps(value))
        with pytest.raises(AssertionError, match=r"(?s)says otherwise.*not into its `required`"):
            file_schemas.check(wrong)


def test_a_line_with_one_key_more_is_found(tmp_path):
    lines = (CORPUS / "timing.jsonl").read_text().splitlines()
    path = tmp_path / "timing.jsonl"
    path.write_text("\n".join([*lines, json.dumps({**json.loads(lines[-1]), "planted": 1})]))
    with pytest.raises(AssertionError, match="'planted' was unexpected"):
        file_schemas.check(path)
