"""HLS pull: a stream that another server gives as playlists and segments."""

from appliance.providers.hls.pull import HlsPullSource

__all__ = ["HlsPullSource"]
