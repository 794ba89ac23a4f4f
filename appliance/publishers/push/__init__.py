"""Push: an output stream sent to somebody else's server (RTMP, RTMPS, SRT, MPEG-TS over UDP and TCP)."""

from appliance.publishers.push.runner import PushRunner

__all__ = ["PushRunner"]
