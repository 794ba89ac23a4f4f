"""MPEG-TS ingest over UDP and TCP: each port is a stream."""

from appliance.providers.mpegts.provider import MpegtsPort, MpegtsProvider
from appliance.providers.mpegts.session import Counters, Target

__all__ = ["Counters", "MpegtsPort", "MpegtsProvider", "Target"]
