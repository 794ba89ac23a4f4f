"""SRT over the system's libsrt: callers and listeners as trio objects. Where libsrt is missing, SrtMissing says so."""

from __future__ import annotations

from appliance.net.srt.library import SrtError, SrtMissing, SrtRefused, installed, version
from appliance.net.srt.listener import Caller, SrtListener
from appliance.net.srt.options import check_options
from appliance.net.srt.sockets import PAYLOAD_SIZE, SrtSocket, connect
from appliance.net.srt.statistics import SrtStatistics

__all__ = [
    "PAYLOAD_SIZE", "Caller", "SrtError", "SrtListener", "SrtMissing", "SrtRefused", "SrtSocket", "SrtStatistics",
    "check_options", "connect", "installed", "version",
]  # fmt: skip
