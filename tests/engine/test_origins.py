"""Origins: which address a wanted stream is fetched from, and that nobody can make the box fetch without end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from appliance.engine.origins import MOST_AT_ONCE, REST, Origins, addresses, matching
from appliance.engine.pulls import PullSpec
from appliance.errors import NotBuilt
from appliance.settings.models import Origin, OriginPass


def origin(location: str, *urls: str, strict: bool = False, forward: bool = True) -> Origin:
    passed = OriginPass(scheme="RTSP", urls=urls, forward_query_params=forward)
    return Origin(location=location, pass_=passed, strict_location=strict)


@pytest.mark.parametrize(
    ("location", "strict", "path", "found"),
    [
        ("/app/", False, "/app/cam", True), ("/app/cam", False, "/app/camera", True),
        ("/app/cam", True, "/app/camera", False),
        ("/app/cam", True, "/app/cam", True), ("/app/cam", False, "/app/ca", False), ("/", False, "/x/y", True),
    ],
)  # fmt: skip
def test_which_origin_holds(location: str, strict: bool, path: str, found: bool) -> None:
    assert (matching((origin(location, "h/x", strict=strict),), path) is not None) is found


def test_the_first_that_matches_wins() -> None:
    first, second = origin("/app/c", "h1"), origin("/app/", "h2")
    assert matching((first, second), "/app/cam") is first
    assert matching((first, second), "/app/dog") is second


def test_what_the_location_leaves_over_goes_before_the_query() -> None:
    made = addresses(origin("/app/", "h1/live/", "h2/x?a=1"), "/app/cam", "t=5")
    assert made == ["rtsp://h1/live/cam?t=5", "rtsp://h2/xcam?a=1&t=5"]
    assert addresses(origin("/app/cam", "h/s1", forward=False), "/app/cam", "t=5") == ["rtsp://h/s1"]


class Fetching:
    """The pulls, as far as Origins use them."""

    def __init__(self) -> None:
        self.specs: list[PullSpec] = []

    def __iter__(self) -> Any:
        return iter([SimpleNamespace(on_demand=True)] * len(self.specs))

    def find(self, vhost: str, app: str, name: str) -> PullSpec | None:
        return next((spec for spec in self.specs if spec.key == f"{vhost}/{app}/{name}"), None)

    def begin(self, spec: PullSpec) -> None:
        if spec.urls[0].startswith("ovt"):
            raise NotBuilt("not built")
        self.specs.append(spec)


def origins(pulls: Fetching, *listed: Origin) -> tuple[Origins, list[float]]:
    now = [100.0]
    settings = SimpleNamespace(origins=SimpleNamespace(origins=listed))
    vhosts: Any = {"default": SimpleNamespace(settings=settings, applications={"app": object()})}
    made: Any = pulls
    return Origins(vhosts, made, lambda: now[0]), now


def test_a_wanted_stream_is_fetched_once() -> None:
    pulls = Fetching()
    made, _ = origins(pulls, origin("/app/", "h/"))
    assert made.wanted("default", "app", "cam", "")
    assert made.wanted("default", "app", "cam", "")
    assert [spec.urls for spec in pulls.specs] == [("rtsp://h/cam",)]


@pytest.mark.parametrize(
    ("vhost", "app", "name"), [("x", "app", "c"), ("default", "x", "c"), ("default", "app", "a b")]
)
def test_what_cannot_be_is_not_fetched(vhost: str, app: str, name: str) -> None:
    pulls = Fetching()
    made, _ = origins(pulls, origin("/app/", "h/"))
    assert not made.wanted(vhost, app, name, "")
    assert pulls.specs == []


def test_one_that_failed_rests_a_while() -> None:
    pulls = Fetching()
    made, now = origins(pulls, origin("/app/", "h/"))
    assert made.wanted("default", "app", "cam", "")
    pulls.specs.clear()
    assert not made.wanted("default", "app", "cam", "")
    now[0] += REST
    assert made.wanted("default", "app", "cam", "")


def test_a_flood_of_names_is_bounded() -> None:
    pulls = Fetching()
    made, _ = origins(pulls, origin("/app/", "h/"))
    wanted = [made.wanted("default", "app", f"cam{number}", "") for number in range(MOST_AT_ONCE + 20)]
    assert sum(wanted) == len(pulls.specs) == MOST_AT_ONCE
