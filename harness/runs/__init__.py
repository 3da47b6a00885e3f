"""Runs on disk: `directory` knows the names inside one, `beginning` who may use it."""

from harness.runs.begin_or_continue import create, remove
from harness.runs.lock import locked
from harness.runs.log_lines import Lines, last_line, read_lines
from harness.runs.run_directory import RESULT_SCHEMA, ROOT, SCHEMA, Run, find, load, name, newest
from harness.runs.stack_changes import (
    note_stack,
    recorded_computation,
    recorded_threads,
    stack_differences,
)

__all__ = [
    "Lines", "RESULT_SCHEMA", "ROOT", "Run", "SCHEMA", "create", "find", "last_line", "load",
    "locked", "name", "newest", "note_stack", "read_lines", "recorded_computation",
    "recorded_threads", "remove", "stack_differences",
]
