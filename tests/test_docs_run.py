"""The shown commands that need no more than the digits data do what is said, as a reader runs them.

A shown command is run as it stands, in one directory, in the pages' order; words in capitals, which
the reader fills in, are filled in; where it would take minutes, options that it has make it short.
The first of each kind starts as a reader's does, with nothing imported.
What is not run is named in `NOT_RUN`, with the reason: a new command has to be run or named.
"""

from __future__ import annotations

import re
import shlex
import textwrap

from tests.command import cold, harness
from tests.test_docs import PAGES, ROOT, SHOWN

# What a line starts with -> why it is not run. The longest that fits counts.
NOT_RUN = {
    "harness data fetch": "downloads MS-COCO's features",
    "harness data extract": "needs MS-COCO's pictures",
    "harness data pack data/coco256": "needs MS-COCO's features",
    "harness fetch inception": "downloads the Inception weights",
    "harness fetch dinov2": "downloads DINOv2",
    "harness eval RUN --fid --also": "needs DINOv2's and CLIP's weights",
    "harness fid": "needs the Inception weights",
    "harness stats": "needs the Inception weights",
    "harness train small": "needs MS-COCO's features",
    'harness train "$@"': "is a line of a batch script: tests/slurm runs that",
    'harness train "$config"': "is a line of a script: test_result_formats.py runs that",
    'harness report "runs/$name"': "is a line of that script",
    "harness eval --fid --nproc 8": "needs eight devices",
    "harness eval nightly": "is of runs on MS-COCO",
    "harness report runs/small": "is of runs on MS-COCO",
    "harness baseline": "takes pinned runs: trained to the end",
    "harness check": "takes pinned runs: trained to the end",
    "harness history": "is of nights that were kept: tests/baselines/nights runs it",
    "harness ab": "trains sixteen runs; one has an environment of its own",
    "harness bisect": "needs a repository with these revisions",
    "harness import": "needs weights of another program",
    "harness plan mid --device cpu --from": "needs a run of more steps than are trained here",
    "harness study run FILE": "is run below, with a file",
    "harness study run depth.toml -o studies/depth --data data/digits --executor slurm":
        "needs Slurm: tests/slurm/test_studies.py",
    "harness acceptance": "needs a GPU; its rehearsal has a test of its own",
    "harness doctor": "fails where the machine lacks something",
}
# A shown file -> its page, and what is made shorter of it.
SHOWN_FILES = {
    "depth.toml": ("studies.md", {
        "[1, 2, 3]": "[1, 2]", "steps = 200": "steps = 4",
        "n_samples = 100": "n_samples = 20\nnum_inference_steps = 2",
    }),
}
FILLED = {
    "DIR": "data/digits", "RUN": "runs/digits", "CONFIG": "digits_tiny",
    "RUN_A": "runs/digits", "RUN_B": "runs/digits",
    "runs/before": "runs/digits", "runs/after": "runs/digits",
}
# Appended, so that they win over the same option shown.
SHORT = {
    "train": "--data data/digits --output-dir runs/digits --set train.max_steps=4 "
             "--set train.eval_at_start=false",
    "eval": "--n-samples 50 --steps 2",
    "sample": "--steps 2",
}

GROUPS = ("data", "study", "runs", "config")  # whose commands are two words
SAMPLES = {"--fid", "--sweep", "--checkpoints", "--until-width", "--against"}  # of eval


def table_commands(page):
    """Commands in the first column of a page's tables."""
    for line in page.read_text().splitlines():
        if found := re.match(r"\| `(harness [a-z][^`]*)` \|", line):
            yield re.sub(r" \[RUN[.]*\]", "", found[1]).replace("RUN...", "RUN")


def shown():
    """(page, line) of every shown command, in the pages' order, what makes the data first."""
    lines = [(page.name, line) for page in PAGES for line in table_commands(page)]
    lines += [(page, line.strip()) for page, line in SHOWN]
    once = {line: page for page, line in reversed(lines)}
    lines = [(once[line], line) for line in dict.fromkeys(line for _, line in lines)]
    return sorted(lines, key=lambda found: not found[1].startswith("harness data digits"))


def reason(line):
    """Why `line` is not run, or None."""
    fitting = [start for start in NOT_RUN if line.startswith(start)]
    return NOT_RUN[max(fitting, key=len)] if fitting else None


def filled(line, made):
    """The arguments that are run for a shown line; what it writes with -o is called `made`."""
    words = shlex.split(line)[1:]
    for at, word in enumerate(words):
        before = words[at - 1]
        if word == "PATH":  # --text-encoder PATH
            words[at] = "data/digits/" + before[2:].replace("-", "_")
        elif before == "-o" and words[0] != "study":  # whose directory later lines name
            words[at] = f"{made}.png" if word == "FILE" else made
        else:
            words[at] = FILLED.get(word, word)
    # The validation loss alone takes no options of sampling.
    loss = words[0] == "eval" and SAMPLES.isdisjoint(words)
    short = "" if loss else SHORT.get(words[0], "")
    return [*words, *shlex.split(short)]


def shown_file(name):
    """A file as its page shows it, below the paragraph that ends with its name, made shorter."""
    page, shorter = SHOWN_FILES[name]
    text = (ROOT / "docs" / page).read_text().partition(f"As `{name}`:\n\n")[2]
    text = textwrap.dedent(re.match(r"(?:(?: {4}.*)?\n)+", text)[0])
    for old, new in shorter.items():
        assert old in text, f"{name}: {old}"
        text = text.replace(old, new)
    return text


def test_shown_commands_run_on_the_digits(tmp_path, capsys):
    ran, left, kinds = [], [], []
    for name in SHOWN_FILES:
        (tmp_path / name).write_text(shown_file(name))
    for number, (page, line) in enumerate(shown()):
        if why := reason(line):
            left.append(f"{page}: {line}: {why}")
            continue
        words = filled(line, f"made{number}")
        kind = words[:2] if words[0] in GROUPS else words[:1]
        ended = (harness if kind in kinds else cold)(*words, cwd=tmp_path)
        kinds.append(kind)
        assert ended.returncode == 0, f"{page}: {line}\n{ended.stderr}"
        ran.append(line)
    with capsys.disabled():
        print("", f"{len(ran)} shown commands ran; not run:", *left, sep="\n  ")
    for name in ("data digits", "train", "eval", "report", "verify", "diff", "export", "sample"):
        assert any(line.startswith(f"harness {name}") for line in ran), name


def test_every_reason_is_for_a_shown_command():
    lines = [line for _, line in shown()]
    assert [start for start in NOT_RUN if not any(x.startswith(start) for x in lines)] == []
