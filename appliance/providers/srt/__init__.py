"""SRT ingest: encoders call, each becomes an input stream."""

from appliance.providers.srt.provider import Counters, SrtPort, SrtProvider

__all__ = ["Counters", "SrtPort", "SrtProvider"]
