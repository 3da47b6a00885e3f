"""Find, parse, override, check and digest a config."""

from __future__ import annotations

import difflib
import json
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from harness import files
from harness.base.errors import DataError, UsageError
from harness.configs.schema import Config
from harness.configs.shipped_names import FOLDER, shipped
from harness.configs.wrong_keys import explain, subsection

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LIMIT = 1 << 20


def load(name_or_path: str, overrides: Iterable[str] = ()) -> Config:
    """The config called `name_or_path` (a shipped name, or the path of a TOML file).

    `overrides`: `section.key=value` strings, values in TOML syntax (a bare word is
    taken as text). UsageError names the key, the value and the remedy.
    """
    data = read_toml(_find(name_or_path), "config")
    return parse(data, source=str(name_or_path), overrides=overrides)


def read_toml(path: Path, what: str) -> bytes:
    """The bytes of a `what` (a word for messages) that somebody wrote; UsageError."""
    try:
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):  # may never end
            raise UsageError(f"cannot read {what} {path}: it is no file")
        data = path.read_bytes() if found.st_size <= _LIMIT else None
    except OSError as error:
        raise UsageError(f"cannot read {what} {path}: {error.strerror}") from error
    if data is None:
        raise UsageError(f"{path} is larger than {_LIMIT} bytes: not a {what}")
    return data


def parse(data: bytes, *, source: str, overrides: Iterable[str] = ()) -> Config:
    """Check TOML text and return the config; UsageError says what is wrong where."""
    return _checked(parse_toml(data, f"config {source}"), overrides, source)


def parse_toml(data: bytes, source: str) -> dict[str, Any]:
    """TOML's values; UsageError if it is none."""
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not UTF-8 text (byte {error.start})") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise UsageError(f"{source} is not TOML: {error}") from error


def overridden(config: Config, overrides: Iterable[str], *, source: str) -> Config:
    """`config` with what `--set` would change in it; UsageError."""
    return _checked(resolved(config), overrides, source)


def _checked(values: dict[str, Any], overrides: Iterable[str], source: str) -> Config:
    for override in overrides:
        _apply(values, override)
    try:
        return Config.model_validate(_normal(Config, values))
    except ValidationError as error:
        raise UsageError(f"config {source}: {explain(error)}") from error


def from_values(values: Any, *, source: str) -> Config:
    """The config of a run that was recorded earlier (`run.json`); DataError if it is not one."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise DataError(f"config recorded in {source}: {explain(error)}") from error


def resolved(config: Config) -> dict[str, Any]:
    """The complete config as plain JSON values, defaults filled in."""
    return config.model_dump(mode="json")


def digest(config: Config) -> str:
    """SHA-256 (hex) of the resolved config's canonical JSON.

    A seed given by `--seed` belongs to the run, not to the config, and does not
    change the digest: two seeds of one config are comparable.
    """
    return files.json_digest(resolved(config))


def is_pinned(config: Config) -> bool:
    """Whether this is, to the digit, the shipped config of its name."""
    return config.name in shipped() and digest(config) == digest(load(config.name))


def describe(config: Config) -> str:
    """The resolved config as TOML, fit to be saved and loaded again."""
    values = resolved(config)
    top = [f"{k} = {_toml(v)}" for k, v in values.items() if not isinstance(v, dict)]
    for section, content in values.items():
        if isinstance(content, dict):
            top += ["", f"[{section}]", *(f"{k} = {_toml(v)}" for k, v in content.items())]
    return "\n".join(top) + "\n"


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """`section.key` -> (value in a, value in b) for every leaf that differs (absent: None)."""
    flat_a, flat_b = flat(a), flat(b)
    keys = sorted(flat_a.keys() | flat_b.keys())
    return {k: (flat_a.get(k), flat_b.get(k)) for k in keys if flat_a.get(k) != flat_b.get(k)}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`section.key` -> value of every leaf."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # A JSON string is a valid TOML basic string, except that TOML wants DEL escaped.
    return json.dumps(value).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)


def _find(name: str) -> Path:
    if name in shipped():
        return FOLDER / f"{name}.toml"
    if name.endswith(".toml") or "/" in name:
        if Path(name).is_file():
            return Path(name)
        raise UsageError(f"config file {name} does not exist")
    near = difflib.get_close_matches(name, shipped(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(
        f"unknown config {name!r}", remedy=f"{hint}shipped configs: {', '.join(shipped())}"
    )


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {override!r} is not of the form section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    at = values
    for part in parts[:-1]:
        at = at.setdefault(part, {})
        if not isinstance(at, dict):
            raise UsageError(f"--set {key}: {part!r} is a value, not a section")
    at[parts[-1]] = value


def _normal(kind: type[BaseModel], values: Any) -> Any:
    """Whole numbers where a float is meant (`decay = 0`) are floats: one digest, not two."""
    if not isinstance(values, dict):
        return values
    out = dict(values)
    for name, field in kind.model_fields.items():
        if name not in out:
            continue
        if section := subsection(field.annotation):
            out[name] = _normal(section, out[name])
        elif field.annotation is float and type(out[name]) is int and abs(out[name]) < 2**53:
            out[name] = float(out[name])
    return out
