"""Whatever stands behind the question mark: an answer, or 400 with the reason."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.api.box.query import flag, known, moment, number, one_of, size
from appliance.api.request import Request
from appliance.errors import BadRequest
from tests.api.box import open_box

NAMES = ("closed", "follow", "format", "level", "lines", "part", "since", "size", "stream", "x")
words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["yes", "no", "64x36", "0x0", "99999x2", "-1", "1e9", "9" * 30, "١٢", "info", "rgb", "jpeg"]),
    st.datetimes().map(str),
)
queries = st.dictionaries(st.sampled_from(NAMES), words, max_size=4)
PATHS = (
    "/box/v1/alarms", "/box/v1/logs", "/box/v1/system", "/metrics", "/openapi.json",
    "/box/v1/vhosts/default/apps/bypass/streams/cam/preview",
)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), queries), min_size=20, max_size=20))
def test_any_query(asked: list[tuple[str, dict[str, str]]]) -> None:
    async def ask() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with open_box(Path(folder)) as box:
                for path, query in asked:
                    if query.get("follow", "no").lower() in ("yes", "true", "1", ""):
                        query.pop("follow", None)
                    text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
                    answer = await box.ask("GET", f"{path}?{text}")
                    assert answer.status_code in (200, 400, 404), (path, query)
                    if answer.status_code != 200:
                        assert answer.json()["message"].startswith("[HTTP] ")

    trio.run(ask)


def test_values() -> None:
    query = {"a": "yes", "b": "NO", "n": "7", "s": "64x36", "t": "2026-01-02T03:04:05Z", "u": "12.5", "e": ""}
    assert (flag(query, "a"), flag(query, "b"), flag(query, "none"), flag(query, "e")) == (True, False, False, True)
    assert (number(query, "n", 1, 0, 9), number(query, "none", 1, 0, 9)) == (7, 1)
    assert (size(query, "s", "1x1", 64), size({}, "s", "8x9", 64)) == ((64, 36), (8, 9))
    assert (moment(query, "t"), moment(query, "u"), moment({}, "t")) == (1767323045.0, 12.5, 0.0)
    assert moment({"t": "2026-01-02T04:04:05 01:00"}, "t") == 1767323045.0, "a plus that was not escaped"
    assert one_of({"f": "RGB"}, "f", "jpeg", ("rgb", "jpeg")) == "rgb"
    for wrong in ("-1", "10", "", "x", "٣", "1" * 40):
        with pytest.raises(BadRequest, match="n is a number from 0 to 9"):
            number({"n": wrong}, "n", 1, 0, 9)
    for wrong in ("1x9", "65x9", "9", "9x", "9x9x9", "٩x9"):
        with pytest.raises(BadRequest, match="size"):
            size({"size": wrong}, "size", "8x8", 64)


def test_unknown_names() -> None:
    async def receive() -> dict[str, object]:
        return {}

    request = Request({"query_string": b"level=info&lvl=x", "headers": []}, receive)
    with pytest.raises(BadRequest, match="Unknown query parameter: lvl"):
        known(request, ("level",))
    assert known(request, ("level", "lvl")) == {"level": "info", "lvl": "x"}
