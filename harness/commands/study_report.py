"""`harness study report`, `bundle`, `check` and `reproduce`: what a study found, for others too."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.commands.options import directory_option, file_option, json_option

_study = click.argument("study", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
_bundle = click.argument("bundle", metavar="BUNDLE",
                         type=click.Path(dir_okay=False, path_type=Path))


@click.command()
@_study
@directory_option("-o", "--output-dir", "out", help="Where it is written.  [default: DIR/report]")
def report(study: Path, out: Path | None) -> None:
    """The study's table: means and intervals over seeds, planned comparisons, what is missing.

    Writes Markdown, CSV, LaTeX and a page with plots; prints the table and the page's path.
    """
    from harness.studies import study_figures, study_report
    from reports import build

    found = study_figures.read(study)
    page = build.write(study_report.files(found), out or study / "report")
    click.echo(f"{study_report.text(found)}\n{page}")


@click.command()
@_study
@file_option("-o", "--output", "out", required=True, help="The archive, a .tar file.")
@click.option("--weights", is_flag=True, help="With the weights of each cell's last checkpoint.")
def bundle(study: Path, out: Path, weights: bool) -> None:
    """One archive of all that the study's tables rest on, for somebody else to check.

    The same study gives the same bytes. Prints the archive's SHA-256.
    """
    from harness.studies import study_bundle

    click.echo(study_bundle.write(study, out, weights=weights))


@click.command()
@_bundle
@json_option
def check(bundle: Path, as_json: bool) -> None:
    """Recompute every figure of a bundle's tables from its raw lines; verify all digests.

    Nothing is kept on disk. Exit code 3 if anything differs, 4 for what is no sound bundle.
    """
    from harness.base.errors import GateFailed
    from harness.studies import bundle_check

    found = bundle_check.check(bundle)
    click.echo(json.dumps(found, indent=2) if as_json else bundle_check.text(found))
    if found["findings"]:
        raise GateFailed(f"{bundle} does not hold what it says")


@click.command()
@_bundle
@click.option("--cell", required=True, metavar="ID", help="Which cell to run again.")
@directory_option("--data", required=True, help="The data that the cell was trained on.")
@directory_option("-o", "--output-dir", "out",
                  help="Where the cell is run.  [default: reproduced/ and the cell's name]")
@json_option
def reproduce(bundle: Path, cell: str, data: Path, out: Path | None, as_json: bool) -> None:
    """Run one cell of a bundle again, here: same bits, within the interval, or outside it.

    The same command goes on where it stopped. Exit code 3 if a figure is outside the interval that
    one more seed of the cell falls into.
    """
    from harness.base.errors import GateFailed
    from harness.studies import reproduce_cell

    found = reproduce_cell.reproduce(bundle, cell, data, out or Path("reproduced") / cell)
    click.echo(json.dumps(found, indent=2) if as_json else reproduce_cell.text(found))
    if found["verdict"] == reproduce_cell.OUTSIDE:
        raise GateFailed(f"{cell} does not come out as {bundle} says")
