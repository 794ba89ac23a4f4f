"""SRT out: players call, and get a stream as MPEG-TS."""

from appliance.publishers.srt.publisher import SrtPublisher
from appliance.publishers.srt.server import Counters, SrtPlayPort, SrtPlayServer

__all__ = ["Counters", "SrtPlayPort", "SrtPlayServer", "SrtPublisher"]
