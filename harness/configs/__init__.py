"""Pinned configurations: found by name or path, checked strictly, digested.

A run is started by name, not by flags. Configs are TOML; there is no
inheritance: what a file leaves out takes the schema's default, and
`harness config show` prints the complete, resolved form.
"""

from harness.configs.commented import commented
from harness.configs.load import (
    describe,
    differences,
    digest,
    flat,
    from_values,
    is_pinned,
    load,
    overridden,
    parse,
    resolved,
    shipped,
)
from harness.configs.schema import Config

__all__ = [
    "Config",
    "commented",
    "describe",
    "differences",
    "flat",
    "digest",
    "from_values",
    "is_pinned",
    "load",
    "overridden",
    "parse",
    "resolved",
    "shipped",
]
