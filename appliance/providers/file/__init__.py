"""Files as sources."""

from appliance.providers.file.pull import FilePullSource
from appliance.providers.file.stream import FileStream

__all__ = ["FilePullSource", "FileStream"]
