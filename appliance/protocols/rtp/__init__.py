"""RTP and RTCP (RFC 3550), and the payload formats that cameras send. Bytes in, frames out; no socket."""
