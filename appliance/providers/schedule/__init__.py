"""Scheduled channels: their files, their requests, and each as a provider."""

from appliance.providers.schedule.forms import from_json, from_xml, patched, to_xml
from appliance.providers.schedule.provider import ScheduledChannel

__all__ = ["ScheduledChannel", "from_json", "from_xml", "patched", "to_xml"]
