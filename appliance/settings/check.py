"""``kiln check FILE``: every fault in a Server.xml at once, with its line."""

from __future__ import annotations

import os
from collections.abc import Mapping

from appliance.settings.xml import Fault, load_xml


def check_file(path: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None) -> list[Fault]:
    """All faults of the file and of what it includes, in the order of files and lines; [] when it can be run."""
    return list(load_xml(path, environment=environment).faults)
