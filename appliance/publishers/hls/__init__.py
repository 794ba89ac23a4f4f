"""HLS version 3 with MPEG-TS segments (RFC 8216), under OvenMediaEngine's names (wire catalogue 4.11)."""

from appliance.publishers.hls.delivery import claims
from appliance.publishers.hls.publisher import HlsPublisher

__all__ = ["HlsPublisher", "claims"]
