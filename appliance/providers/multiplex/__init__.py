"""Multiplex channels: their files, their requests, and each as a provider."""

from appliance.providers.multiplex.forms import from_json, from_xml, patched, to_xml
from appliance.providers.multiplex.model import Multiplex, SourceStream, TrackMap
from appliance.providers.multiplex.provider import MultiplexChannel, State

__all__ = [
    "Multiplex", "MultiplexChannel", "SourceStream", "State", "TrackMap", "from_json", "from_xml", "patched", "to_xml",
]  # fmt: skip
