"""Files that are whole whenever the program dies, and JSON that every reader takes."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any


def replace_file(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that it is, whenever the program dies, either the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def to_json(value: Any, indent: int | None = None) -> str:
    """Nested values as JSON: arrays as lists, and null for what is not finite, which JSON has not."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
