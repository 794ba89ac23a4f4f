"""Low-latency HLS: draft-pantos-hls-rfc8216bis, under OvenMediaEngine's names (wire catalogue 4)."""
