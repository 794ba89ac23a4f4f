"""Applications (catalogue 1.3)."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from appliance.access.roles import Role
from appliance.api.envelope import Answer, fine, multi_status, plain, refused, success
from appliance.api.ome.secrets import shown_to
from appliance.api.ome.vhosts import array, obj, refuse_put
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.application import Application
from appliance.engine.engine import Engine
from appliance.errors import BadRequest, KilnError
from appliance.settings.json_form import merge_patch
from appliance.settings.schema import Raw

#: What a new application gets where it says nothing. A key that is there counts, whatever is in it.
FILLED: Raw = {
    "providers": {"ovt": {}, "rtspPull": {}, "webrtc": {}, "srt": {}, "rtmp": {}},
    "publishers": {"llhls": {}, "webrtc": {}, "ovt": {}},
    "outputProfiles": {
        "outputProfile": [
            {
                "name": "default",
                "outputStreamName": "${OriginStreamName}",
                "encodes": {
                    "videos": [{"name": "bypass_video", "bypass": True}],
                    "audios": [
                        {
                            "name": codec, "codec": codec, "bitrate": 128000, "samplerate": 48000, "channel": 2,
                            "bypassIfMatch": {"codec": "eq"},
                        }
                        for codec in ("opus", "aac")
                    ],
                },
            }
        ]
    },
}  # fmt: skip

#: In the order in which they are looked for.
_FIXED = ("name", "dynamic", "outputProfiles")


class Applications:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/v1/vhosts/{v}/apps", self.names, Role.VIEWER)
        yield Route("POST", "/v1/vhosts/{v}/apps", self.create, Role.ADMIN)
        yield Route("GET", "/v1/vhosts/{v}/apps/{a}", self.one, Role.VIEWER)
        yield Route("GET", "/v1/vhosts/{v}/apps/{a}:", self.settings, Role.VIEWER)
        yield Route("PATCH", "/v1/vhosts/{v}/apps/{a}", self.change, Role.ADMIN)
        yield Route("DELETE", "/v1/vhosts/{v}/apps/{a}", self.delete, Role.ADMIN)
        yield Route("PUT", "/v1/vhosts/{v}/apps/{a}", refuse_put(self._engine), Role.ADMIN)

    async def names(self, request: Request, vhost: str) -> Answer:
        return success(list(self._engine.editor.vhost(vhost).applications))

    async def create(self, request: Request, vhost: str) -> Answer:
        body = await request.json()
        self._engine.editor.vhost(vhost, to_write=True)
        items = [_filled(each) for each in array(body)]
        made = await self._engine.editor.create_applications(vhost, items)
        return multi_status(
            refused(each) if isinstance(each, KilnError) else fine(application_resource(each)) for each in made
        )

    async def one(self, request: Request, vhost: str, app: str) -> Answer:
        found = self._engine.editor.application(vhost, app)
        return success(shown_to(request.role, application_resource(found)))

    async def settings(self, request: Request, vhost: str, app: str) -> Answer:
        """The settings alone."""
        return success(shown_to(request.role, self._engine.editor.application(vhost, app).raw))

    async def change(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json()

        def edit(raw: Raw) -> Raw:
            patch = obj(body)
            for key in _FIXED:
                if key in patch:
                    raise BadRequest(f"Cannot change [{key}] using this API")
            return merge_patch(raw, patch)

        return success(application_resource(await self._engine.editor.change_application(vhost, app, edit)))

    async def delete(self, request: Request, vhost: str, app: str) -> Answer:
        await self._engine.editor.delete_application(vhost, app)
        return plain(200)


def application_resource(application: Application) -> Raw:
    """The application as it was written."""
    return {**application.raw, "dynamic": application.dynamic}


def _filled(item: Any) -> Any:
    """``item`` with what is missing in it; null is an application that says nothing."""
    if item is None:
        item = {}
    return {**deepcopy(FILLED), **item} if isinstance(item, dict) else item
