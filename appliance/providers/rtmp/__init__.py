"""RTMP ingest: encoders publish, each becomes an input stream."""

from appliance.providers.rtmp.provider import RtmpProvider
from appliance.providers.rtmp.room import Counters

__all__ = ["Counters", "RtmpProvider"]
