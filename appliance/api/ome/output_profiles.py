"""Output profiles of an application (catalogue 1.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.envelope import Answer, Result, fine, multi_status, plain, refused, success, wrapped_config_failure
from appliance.api.ome.vhosts import array, obj, refuse_put
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.application import Application
from appliance.engine.engine import Engine
from appliance.errors import BadRequest, ConfigError, NameTaken, NotFound
from appliance.settings.schema import Raw

_INVALID = "Invalid request body: "
_AT_LEAST_ONE = '"encodes" must have at least one item (videos array or audios array)'


class OutputProfiles:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Iterator[Route]:
        profiles = "/v1/vhosts/{v}/apps/{a}/outputProfiles"
        yield Route("GET", profiles, self.names, Role.VIEWER)
        yield Route("POST", profiles, self.create, Role.ADMIN)
        yield Route("GET", f"{profiles}/{{v}}", self.one, Role.VIEWER)
        yield Route("PATCH", f"{profiles}/{{v}}", self.change, Role.ADMIN)
        yield Route("DELETE", f"{profiles}/{{v}}", self.delete, Role.ADMIN)
        yield Route("PUT", f"{profiles}/{{v}}", refuse_put(self._engine), Role.ADMIN)

    async def names(self, request: Request, vhost: str, app: str) -> Answer:
        return success([each["name"] for each in profiles_of(self._engine.editor.application(vhost, app).raw)])

    async def create(self, request: Request, vhost: str, app: str) -> Answer:
        body = await request.json()
        results: list[Result] = []

        def edit(raw: Raw) -> Raw:
            items = array(body)
            for item in items:
                _check_shape(item)
            profiles = profiles_of(raw)
            for item in items:
                name = item["name"]
                if any(each["name"] == name for each in profiles):
                    results.append(refused(NameTaken(f'The output profile "{name}" already exists')))
                else:
                    profiles.append(item)
                    results.append(fine(item))
            return _with_profiles(raw, profiles)

        changed = await self._change(vhost, app, edit)
        # What is answered is what was written: without nulls.
        written = {each["name"]: each for each in profiles_of(changed.raw)}
        return multi_status(
            fine(written.get(each["response"]["name"], each["response"])) if "response" in each else each
            for each in results
        )

    async def one(self, request: Request, vhost: str, app: str, profile: str) -> Answer:
        profiles = profiles_of(self._engine.editor.application(vhost, app).raw)
        return success(profiles[_index(profiles, vhost, app, profile)])

    async def change(self, request: Request, vhost: str, app: str, profile: str) -> Answer:
        """What is sent takes the place of all that the profile was, but its name."""
        body = await request.json()

        def edit(raw: Raw) -> Raw:
            given = obj(body)
            profiles = profiles_of(raw)
            index = _index(profiles, vhost, app, profile)
            for key in sorted(given):
                if key.lower() == "name":
                    raise BadRequest(f"The {key} entry cannot be specified in the modification")
            profiles[index] = {**given, "name": profiles[index]["name"]}
            return _with_profiles(raw, profiles)

        profiles = profiles_of((await self._change(vhost, app, edit)).raw)
        return success(profiles[_index(profiles, vhost, app, profile)])

    async def delete(self, request: Request, vhost: str, app: str, profile: str) -> Answer:
        def edit(raw: Raw) -> Raw:
            profiles = profiles_of(raw)
            del profiles[_index(profiles, vhost, app, profile)]
            return _with_profiles(raw, profiles)

        await self._change(vhost, app, edit)
        return plain(200)

    async def _change(self, vhost: str, app: str, edit: Callable[[Raw], Raw]) -> Application:
        try:
            return await self._engine.editor.change_application(vhost, app, edit)
        except ConfigError as error:
            raise wrapped_config_failure(error) from error


def profiles_of(application: Raw) -> list[Raw]:
    """A list of its own, of the application's profiles as they were written."""
    return list(application.get("outputProfiles", {}).get("outputProfile", ()))


def _with_profiles(application: Raw, profiles: list[Raw]) -> Raw:
    return {**application, "outputProfiles": {**application.get("outputProfiles", {}), "outputProfile": profiles}}


def _index(profiles: list[Raw], vhost: str, app: str, name: str) -> int:
    for index, each in enumerate(profiles):
        if each["name"] == name:
            return index
    raise NotFound(f"Could not find the output profile: [{vhost}/{app}/{name}]")


def _check_shape(item: Any) -> None:
    """Raises BadRequest for what no profile may look like; the settings' own rules come after."""
    if not isinstance(item, dict) or not {"name", "outputStreamName", "encodes"} <= item.keys():
        raise BadRequest(f'{_INVALID}"name", "outputStreamName", "encodes" are required')
    encodes = item["encodes"]
    texts = isinstance(item["name"], str) and isinstance(item["outputStreamName"], str)
    if not texts or not isinstance(encodes, dict):
        raise BadRequest(f'{_INVALID}"name" must be a string and "encodes" must be an object')
    if "videos" not in encodes and "audios" not in encodes:
        raise BadRequest(f"{_INVALID}{_AT_LEAST_ONE}")
    for kind in ("videos", "audios"):
        if kind in encodes and not isinstance(encodes[kind], list):
            raise BadRequest(f'{_INVALID}"encodes.{kind}" must be an array')
    if not encodes.get("videos") and not encodes.get("audios"):
        raise BadRequest(f"{_INVALID}{_AT_LEAST_ONE} and each item must have at least one item")
