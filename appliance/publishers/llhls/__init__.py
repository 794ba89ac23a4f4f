"""Low-latency HLS: draft-pantos-hls-rfc8216bis, under OvenMediaEngine's names (wire catalogue 4)."""

from appliance.publishers.llhls.delivery import claims
from appliance.publishers.llhls.publisher import LlhlsPublisher

__all__ = ["LlhlsPublisher", "claims"]
