"""Reading files that may be hostile, writing files that are never half there."""

from harness.files.arrays import NPY_HEADER_LIMIT, load_npy, load_npz, load_object_npy, parse_npy
from harness.files.safe_reading import (
    JSON_LIMIT,
    is_number,
    parse_json,
    read_bytes,
    read_json,
    reading,
    refuse_deep,
    refuse_newer,
    sha256_file,
)
from harness.files.safe_writing import (
    atomic_path,
    atomic_write_bytes,
    atomic_write_json,
    canonical_json,
    finite,
    fsync_directory,
    json_digest,
    leftovers,
    refuse_taken,
    staged,
    writing,
)

__all__ = [
    "JSON_LIMIT", "NPY_HEADER_LIMIT", "atomic_path", "atomic_write_bytes",
    "atomic_write_json", "canonical_json", "finite", "fsync_directory", "is_number", "json_digest",
    "leftovers", "load_npy", "load_npz", "load_object_npy", "parse_json", "parse_npy",
    "read_bytes", "read_json", "reading", "refuse_deep", "refuse_newer", "refuse_taken",
    "sha256_file", "staged", "writing",
]
