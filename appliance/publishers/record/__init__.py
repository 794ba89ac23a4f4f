"""The FILE publisher: recordings (catalogue 1.4, 3.5, 6.6)."""

from appliance.publishers.record.runner import RecordRunner

__all__ = ["RecordRunner"]
