"""All tables of a report in one value: what its page, Markdown and CSV are written from."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from harness.base import cpu_info
from harness.base.wording import counted
from reports.reading.run_records import Record
from reports.tables import history as nightly
from reports.tables.columns import Column


@dataclass(frozen=True)
class Report:
    """Everything that the Markdown, CSV and HTML are written from."""

    records: list[Record]
    reference: Record
    columns: list[Column]
    tables: dict[str, pd.DataFrame] = field(repr=False)
    seed_groups: list[list[Record]] = field(repr=False)
    history: nightly.History | None = None

    @property
    def title(self) -> str:
        return f"Benchmark report: {counted(len(self.records), 'run')}"

    @property
    def introduction(self) -> str:
        configs = sorted({str(r.config.get("name", "")) for r in self.records})
        shown = ", ".join(configs[:8]) + (" and others" if len(configs) > 8 else "")
        devices = sorted({_trained_on(record) for record in self.records})
        more = f" and {len(devices) - 3} more" if len(devices) > 3 else ""
        against = f" Ratios are against {self.reference.label}." if len(self.records) > 1 else ""
        return f"Configs: {shown}. Trained on {', '.join(devices[:3])}{more}.{against}"

    def shown_columns(self) -> list[Column]:
        """Columns of the comparison in which at least one run has a value."""
        table = self.tables["comparison"]
        return [column for column in self.columns if table[column.key].notna().any()]


def _trained_on(record: Record) -> str:
    path = record.fingerprint.get("env.MKL_DEBUG_CPU_TYPE")
    by = f" by {cpu_info.mkl_path(path)}" if path else ""
    return f"{record.devices} \N{MULTIPLICATION SIGN} {record.device}{by}"
