"""Who was asked: the Host header of HTTP (RFC 9110 7.2)."""

from __future__ import annotations


def host_name(header: bytes) -> str:
    """The host of a Host header in lower case, without its port and the brackets of an IPv6 address."""
    text = header.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]
