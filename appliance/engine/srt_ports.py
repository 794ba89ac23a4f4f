"""Which SRT ports a Bind opens: a list of its own, and one more for each stream that is mapped to a port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from appliance.settings import models
from appliance.settings.ports import parse_ports


class SrtPlace(NamedTuple):
    """``stream_path`` is what callers without a stream id get ("" when they are refused)."""

    host: str
    port: int
    options: dict[str, str]
    stream_path: str


def srt_ports(bind: models.BindSrt, addresses: Sequence[str]) -> list[SrtPlace]:
    options = {option.key: option.value for option in bind.options}
    paths = dict.fromkeys(parse_ports(bind.port, "srt").numbers, "")
    for stream in bind.stream_map:
        paths.update(dict.fromkeys(parse_ports(stream.port, "srt").numbers, stream.stream_path))
    return [SrtPlace(host, port, options, path) for host in addresses for port, path in paths.items()]
