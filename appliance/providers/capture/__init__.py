"""Capture: raw sources of the box itself, the test pattern among them, as input streams."""

from appliance.providers.capture.provider import CaptureProvider

__all__ = ["CaptureProvider"]
