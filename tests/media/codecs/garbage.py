"""Damaging real bytes, and the one way a parser may refuse them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError


def survives(parse: Callable[..., object], *arguments: object) -> None:
    """``parse`` gives a result or RemoteProtocolError, nothing else."""
    try:
        parse(*arguments)
    except RemoteProtocolError:
        return


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """One of ``originals`` with bits flipped, its end cut off, or bytes put in."""
    data = bytearray(draw(st.sampled_from(originals)))
    for position in draw(st.lists(st.integers(0, len(data) * 8 - 1), max_size=6)):
        data[position // 8] ^= 1 << position % 8
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data)))
        data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)
