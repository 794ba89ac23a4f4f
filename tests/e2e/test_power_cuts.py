"""SIGKILL in the middle of changes over the API: afterwards the box is as before the change, or as after it."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from tests.kit.kiln import KilnProcess
from tests.kit.server_xml import ServerXml
from tests.kit.shares import long_share

NAMES = ("a", "b", "c")
Change = tuple[str, str, Any]


def configuration(kiln: KilnProcess) -> dict[str, Any]:
    """Everything that the API made, as it tells it."""
    found: dict[str, Any] = {}
    for vhost in sorted(kiln.api("/v1/vhosts")):
        apps = {app: kiln.api(f"/v1/vhosts/{vhost}/apps/{app}") for app in kiln.api(f"/v1/vhosts/{vhost}/apps")}
        found[vhost] = {"settings": kiln.api(f"/v1/vhosts/{vhost}"), "apps": apps}
    return found


def profile(chance: random.Random, name: str) -> dict[str, Any]:
    video = {"codec": "h264", "bitrate": chance.randrange(10_000, 900_000)}
    return {"name": name, "outputStreamName": f"${{OriginStreamName}}_{name}", "encodes": {"videos": [video]}}


def application(chance: random.Random, name: str) -> dict[str, Any]:
    return {"name": name, "type": "live", "outputProfiles": {"outputProfile": [profile(chance, "p")]}}


def random_change(chance: random.Random) -> Change:
    """One write. Not every one can be done; those that can't change nothing."""
    vhost, app = chance.choice(NAMES), chance.choice(NAMES)
    apps = f"/v1/vhosts/{vhost}/apps"
    profiles = f"{apps}/{app}/outputProfiles"
    several = [application(chance, name) for name in chance.sample(NAMES, 2)]
    everything: list[Change] = [
        ("POST", "/v1/vhosts", [{"name": vhost, "applications": several}, {"name": chance.choice(NAMES)}]),
        ("POST", apps, several),
        ("POST", apps, several),
        ("PATCH", f"{apps}/{app}", {"publishers": {"llhls": {"segmentCount": chance.randrange(3, 30)}}}),
        ("PATCH", f"{apps}/{app}", {"publishers": {"llhls": {"segmentCount": chance.randrange(3, 30)}}}),
        ("POST", profiles, [profile(chance, name) for name in chance.sample(NAMES, 2)]),
        ("PATCH", f"{profiles}/p", {key: value for key, value in profile(chance, "p").items() if key != "name"}),
        ("DELETE", f"{profiles}/{chance.choice(NAMES)}", None),
        ("DELETE", f"{apps}/{app}", None),
        ("DELETE", f"/v1/vhosts/{vhost}", None),
    ]
    return chance.choice(everything)


def write_and_kill(kiln: KilnProcess, change: Change, after: float) -> bool:
    """Send ``change`` and kill the engine ``after`` seconds. Whether it was answered before."""
    answered = threading.Event()

    def send() -> None:
        try:
            kiln.call(*change)
        except (OSError, http.client.HTTPException, json.JSONDecodeError, urllib.error.URLError):
            return
        answered.set()

    writer = threading.Thread(target=send)
    writer.start()
    time.sleep(after)
    told = answered.is_set()
    kiln.kill()
    writer.join(10)
    return told


@pytest.mark.parametrize("times", [10, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_each_change_is_whole_or_not_at_all(tmp_path: Path, times: int) -> None:
    if times > 10:
        times = long_share(times, 10)
    chance = random.Random(times)
    kiln = KilnProcess(tmp_path / "killed", ServerXml(applications=()))
    twin = KilnProcess(tmp_path / "twin", ServerXml(applications=()))
    kept = lost = 0
    try:
        kiln.start()
        twin.start()
        for number in range(times):
            for _ in range(3):
                change = random_change(chance)
                assert kiln.call(*change) == twin.call(*change)
            before = configuration(twin)
            change = random_change(chance)
            told = write_and_kill(kiln, change, chance.choice((0.0, 0.001, 0.002, 0.003, 0.005, 0.01)))
            # Nobody kills the twin: it says what the change was meant to do.
            twin.call(*change)
            after = configuration(twin)
            kiln.start(timeout=60)
            found = configuration(kiln)
            assert found in (before, after), (number, change)
            assert not told or found == after, "it was answered, and is not there"
            if found != after:
                lost += 1
                # Made again, both go on from the same.
                kiln.call(*change)
            else:
                kept += before != after
    finally:
        kiln.kill()
        twin.kill()
    if times > 100:
        assert kept > 0, "no kill came after the change"
        assert lost > 0, "no kill came before it"
