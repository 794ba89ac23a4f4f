"""RTMP in: encoders publish, and streams of other servers are pulled."""

from appliance.providers.rtmp.provider import RtmpProvider
from appliance.providers.rtmp.pull import RtmpPullSource
from appliance.providers.rtmp.room import Counters, Room

__all__ = ["Counters", "Room", "RtmpProvider", "RtmpPullSource"]
