"""Streams fetched from cameras and servers that speak RTSP."""

from appliance.providers.rtsp.pull import RtspPullSource

__all__ = ["RtspPullSource"]
