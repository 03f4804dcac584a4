"""The JSON file that a measurement of speed writes."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from valuelab.runs import outputs


def write(path: pathlib.Path | None, settings: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """Writes settings, machine and measurements, in this order.

    Args:
        path: the file; nothing is written if None.
        settings: what was measured.
        measured: the measurements.
    """
    if path:
        machine = {
            **outputs.provenance(),
            "load_average": os.getloadavg()[0],
        }
        outputs.write_json(path, {**settings, **machine, **measured})
