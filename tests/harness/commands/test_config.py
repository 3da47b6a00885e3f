"""`harness config`: what differs, a config of one's own, the schema for editors."""

import json

import jsonschema
import pytest
from click.testing import CliRunner

from harness import configs
from harness.base.errors import HarnessError, UsageError
from harness.commands.config import command
from harness.configs.load import tomllib


def run(*words):
    done = CliRunner().invoke(command, [*map(str, words)])
    if isinstance(done.exception, HarnessError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_what_differs_is_a_line_each():
    lines = run("diff", "small", "small_deep").splitlines()
    assert [line.split() for line in lines if line.startswith("model.")] == [
        ["model.num_layers", "12", "->", "16"]]
    found = json.loads(run("diff", "small", "small_deep", "--json"))
    assert found["model.num_layers"] == [12, 16] and found["name"] == ["small", "small_deep"]
    assert run("diff", "small", "small") == ""


@pytest.mark.parametrize("like", configs.shipped())
def test_a_config_of_ones_own_begins_as_another_and_says_what_it_may_be(tmp_path, like):
    path = tmp_path / "mine.toml"
    run("init", path, "--like", like)
    mine, theirs = configs.load(str(path)), configs.load(like)
    assert set(configs.differences(configs.resolved(mine), configs.resolved(theirs))) == {
        "name", "description"}
    assert mine.name == "mine" and not configs.is_pinned(mine)
    text = path.read_text()
    for said in ("# one of fp32, fp16, bf16", "# true or false", "# more than 0, at most 1e+09",
                 "# AdamW and its schedule."):
        assert said in text, said


@pytest.mark.parametrize("words, said", [
    (("init", "{0}/there.toml"), "exists"),
    (("init", "{0}/no name.toml"), "name"),
    (("init", "{0}/x.toml", "--like", "smal"), "did you mean 'small'"),
    (("diff", "small", "nowhere.toml"), "does not exist"),
])
def test_what_cannot_be_is_a_line_and_writes_nothing(tmp_path, words, said):
    (tmp_path / "there.toml").touch()
    with pytest.raises(UsageError, match=said):
        run(*(word.format(tmp_path) for word in words))
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]


def test_editors_take_the_schema():
    schema = json.loads(run("schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    for name in configs.shipped():
        values = configs.resolved(configs.load(name))
        jsonschema.validate(values, schema)
    bad = {**values, "optim": {**values["optim"], "lr": -1.0}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema)
    assert tomllib.loads(configs.commented(configs.load("small"), name="x"))["name"] == "x"
