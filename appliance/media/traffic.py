"""How much leaves by an output stream. Whoever answers or sends adds to it once a response, never once a packet."""

from __future__ import annotations


class Traffic:
    """``sent_bytes`` of all publishers of one output stream, bodies and payloads without what wraps them."""

    __slots__ = ("sent_bytes",)

    def __init__(self) -> None:
        self.sent_bytes = 0
