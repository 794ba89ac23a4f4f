"""The newest still picture of a stream, at its URL (wire catalogue 4.12)."""

from appliance.publishers.thumbnail.publisher import ThumbnailPublisher, claims

__all__ = ["ThumbnailPublisher", "claims"]
