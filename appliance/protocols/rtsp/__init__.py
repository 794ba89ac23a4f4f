"""RTSP 1.0 (RFC 2326) as a client that plays: bytes in, events out; no socket."""
