"""`harness report`: compare runs on throughput, memory and quality."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.base.wording import counted
from harness.commands.options import directory_option, format_option


@click.command("report")
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=click.Path(path_type=Path))
@directory_option(
    "-o", "--output-dir", default=Path("runs/report"), show_default=True,
    help="Where the report is written; an earlier report there is replaced.",
)
@click.option(
    "--reference", metavar="RUN", help="Ratios are against this run.  [default: the first]"
)
@click.option(
    "--price", type=click.FloatRange(0, 1e6), metavar="USD",
    help="Of one device for one hour: adds projected cost.",
)
@format_option()
@directory_option("--history", help="Earlier nights, one folder each: draws figures over nights.")
def command(
    runs: tuple[Path, ...], output_dir: Path, reference: str | None, price: float | None,
    form: str | None, history: Path | None,
) -> None:
    """Compare RUNs (default: every run under runs/) in HTML, Markdown and CSV.

    Figures of different protocols or N never share a column or a ratio. Prints the
    report's path.
    """
    from harness import runs as on_disk
    from reports import build

    chosen = on_disk.find(tuple(str(run) for run in runs))
    names = ", ".join(str(run.directory) for run in chosen[:12])
    more = f" and {len(chosen) - 12} more" if len(chosen) > 12 else ""
    count = counted(len(chosen), "run")
    print(f"report over {count}: {names}{more}", file=sys.stderr)
    if form is not None:
        from baselines import result_formats

        click.echo(result_formats.document(chosen, form), nl=False)
        return
    report = build.build(chosen, reference=reference, price=price, history=history)
    click.echo(str(build.write(build.contents(report), output_dir)))
