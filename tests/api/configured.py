"""A virtual host and an application to try the configuration's routes on."""

from __future__ import annotations

from typing import Any

from tests.api.box import Box

READ_ONLY = "[HTTP] The VirtualHost is read-only: [default] (403)"
BYPASS = {"name": "bypass", "outputStreamName": "${OriginStreamName}", "encodes": {"videos": [{"bypass": True}]}}
APPS = "/v1/vhosts/tv/apps"
PROFILES = f"{APPS}/one/outputProfiles"


async def told(box: Box, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    answer = await box.ask(method, path, body=body)
    return answer.status_code, answer.json()


def message(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["message"]


async def make(box: Box, **more: Any) -> None:
    """The virtual host ``tv`` with the application ``one``."""
    assert (await told(box, "POST", "/v1/vhosts", [{"name": "tv", "host": {"names": ["tv.local"]}}]))[0] == 200
    application = {"name": "one", "type": "live", "outputProfiles": {"outputProfile": [BYPASS]}, **more}
    assert (await told(box, "POST", APPS, [application]))[0] == 200
