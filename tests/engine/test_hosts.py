"""Host names to virtual hosts: whole-string wildcards, first match in configuration order."""

from __future__ import annotations

import pytest

from appliance.engine.hosts import first_match, host_matches


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        (["*"], "anything.example", True),
        (["tv.example"], "TV.Example", True),
        (["tv.example"], "xtv.example", False),
        (["tv.example"], "tv.example.org", False),
        (["*.example"], "a.b.example", True),
        (["*.example"], "example", False),
        (["cam?.lan"], "cam7.lan", True),
        (["cam?.lan"], "cam77.lan", False),
        (["a.b"], "axb", False),
        (["[::1]"], "[::1]", True),
        ([], "localhost", False),
    ],
)
def test_names_are_wildcards_over_the_whole_host(names: list[str], host: str, expected: bool) -> None:
    assert host_matches(names, host) is expected


def test_the_first_virtual_host_wins() -> None:
    vhosts = [("one", ["tv.example"]), ("all", ["*"]), ("late", ["other.example"])]
    assert first_match(vhosts, "tv.example") == "one"
    assert first_match(vhosts, "other.example") == "all"
    assert first_match(vhosts[:1], "other.example") is None
