"""Hypothesis strategies: raw trees of settings that keep all the rules."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from appliance.settings import models
from appliance.settings.schema import Field, Kind, Node, Raw, fields_of

TEXTS = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P"], exclude_characters="$"), min_size=1, max_size=8
)
EQUAL = st.just("eq")
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "type": st.just("live"),
    "location": st.just("/app/x"),
    "encoding_type": st.sampled_from(["all", "Bypassed", "encoded"]),
    "timestamp_mode": st.sampled_from(["ZeroBased", "original"]),
    "preset": st.sampled_from(["slower", "Fast"]),
    "profile": st.sampled_from(["baseline", "Main", "high"]),
    "key_frame_interval_type": st.sampled_from(["frame", "time"]),
    "hls_chunklist_path_depth": st.integers(-1, 2),
    "bandwidth_estimation": st.just("REMB"),
    "output_stream_name": st.just("${OriginStreamName}_a"),
    "file_name": st.just("master"),
    "group": st.sampled_from(["239.1.1.1", "ff15::1"]),
    "port": st.sampled_from(["4000/udp", "4000-4002,4005/udp"]),
    "host": st.just("10.0.0.1:6379"),
    "bypass": st.just(True),
    "on_input_loss": st.sampled_from(["end", "hold"]),
    "stall_ms": st.integers(100, 5000),
    "make": st.sampled_from(["crystalfontz", "MatrixOrbital"]),
    "role": st.sampled_from(["on-air", "Output"]),
    "shows": st.sampled_from(["on-air", "recording"]),
    "address": st.integers(1, 7),
    "temperature": st.integers(80, 240).map(lambda half: half / 2),
    "load": st.integers(50, 100).map(float),
}
BROKEN_BY_BEING_THERE = {"packet_silence_timeout_ms", "default_label", "video", "audio"}
COMPARED = (models.AudioBypassIfMatch, models.VideoBypassIfMatch)


def trees(model: type[Node]) -> st.SearchStrategy[Raw]:
    """Raw trees for ``model`` with JSON values."""
    return st.composite(_tree)(model)


def _tree(draw: st.DrawFn, model: type[Node]) -> Raw:
    raw: Raw = {}
    for field in fields_of(model):
        wanted = field.required or field.attr == "bypass" or draw(st.integers(0, 2)) == 0
        if wanted and field.attr not in BROKEN_BY_BEING_THERE and field.kind is not Kind.OPAQUE:
            value = _value(draw, model, field)
            if value is not None:
                raw[field.json] = value
    if model is models.PtzCamera:
        # One way to reach it, and one alone.
        raw = {name: raw[name] for name in ("name", "baudrate", "address") if name in raw} | {"device": "/dev/ttyS0"}
    if model is models.Box:
        raw["stream"] = "default/app/main"
    return raw


def _value(draw: st.DrawFn, model: type[Node], field: Field) -> Any:
    if model in COMPARED:
        return None if field.attr == "bitrate" else draw(EQUAL)
    if field.many:
        count = draw(st.integers(1 if field.required else 0, 2))
        items = [_item(draw, model, field) for _ in range(count)]
        for index, item in enumerate(items):
            if isinstance(item, dict):
                item.update({key: f"n{index}" for key in ("name", "fileName") if key in item})
        if not items and not (field.container or field.nested):
            return None  # no element at all in XML
        return {field.item_json: items} if field.nested else items
    return _item(draw, model, field)


def _item(draw: st.DrawFn, model: type[Node], field: Field) -> Any:
    if field.section:
        return _tree(draw, field.section)
    if field.attr in BY_NAME and not (field.attr == "host" and model is not models.RedisServer):
        return draw(BY_NAME[field.attr])
    if model is models.TLS and field.kind is Kind.TEXT:
        return "/" + draw(TEXTS)  # a relative one means another file in XML
    match field.kind:
        case Kind.INTEGER:
            return draw(st.integers(1, 9))
        case Kind.NUMBER:
            return draw(st.integers(1, 400)) / 8
        case Kind.BITRATE:
            return draw(st.one_of(st.integers(1, 10**9), st.sampled_from(["2M", "128k", "1.5M"])))
        case Kind.BOOLEAN:
            return draw(st.booleans())
        case Kind.TEXT if field.attr == "name":
            return "n0"
        case _:
            return draw(TEXTS)
