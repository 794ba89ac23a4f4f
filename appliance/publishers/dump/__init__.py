"""Copies of a live LL-HLS stream as files that play from disk (catalogue 3.7, 6.10; wire catalogue 7.6)."""

from appliance.publishers.dump.runner import DumpRunner

__all__ = ["DumpRunner"]
