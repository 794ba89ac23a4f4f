"""Virtual hosts and their certificates (catalogue 1.2, 1.11)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from appliance.access.roles import Role
from appliance.api.envelope import Answer, fine, multi_status, plain, refused, success
from appliance.api.ome.secrets import shown_to
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.certificates import certificate_names
from appliance.engine.engine import Engine
from appliance.errors import BadRequest, ConfigError, Forbidden, KilnError, NotFound

_KEPT = "Failed to reload certificate. Keep the existing certificate."


class CertificateFailed(KilnError):
    """A certificate can't be loaded; the one before is still shown."""

    status = 500


class Vhosts:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Iterator[Route]:
        yield Route("GET", "/v1/vhosts", self.names, Role.VIEWER)
        yield Route("POST", "/v1/vhosts", self.create, Role.ADMIN)
        yield Route("GET", "/v1/vhosts/{v}", self.one, Role.VIEWER)
        yield Route("DELETE", "/v1/vhosts/{v}", self.delete, Role.ADMIN)
        yield Route("PUT", "/v1/vhosts/{v}", refuse_put(self._engine), Role.ADMIN)
        yield Route("POST", "/v1/vhosts:reloadAllCertificates", self.reload_all, Role.ADMIN)
        yield Route("POST", "/v1/vhosts/{v}:reloadAllCertificates", self.reload_all, Role.ADMIN)
        yield Route("POST", "/v1/vhosts/{a}:reloadCertificate", self.reload, Role.ADMIN)
        yield Route("POST", "/v1/managers/api:reloadCertificate", self.reload_managers, Role.ADMIN)

    async def names(self, request: Request) -> Answer:
        return success(list(self._engine.directory.vhosts))

    async def create(self, request: Request) -> Answer:
        items = array(await request.json())
        made = await self._engine.editor.create_vhosts(items)
        return multi_status(refused(each) if isinstance(each, KilnError) else fine(each.raw) for each in made)

    async def one(self, request: Request, vhost: str) -> Answer:
        return success(shown_to(request.role, self._engine.editor.vhost(vhost).raw))

    async def delete(self, request: Request, vhost: str) -> Answer:
        await self._engine.editor.delete_vhost(vhost)
        return plain(200)

    async def reload(self, request: Request, vhost: str) -> Answer:
        await request.json()
        try:
            self._engine.editor.reload_certificate(vhost)
        except ConfigError as error:
            raise CertificateFailed(f"{_KEPT} {error}") from error
        return plain(200)

    async def reload_all(self, request: Request, vhost: str = "") -> Answer:
        await request.json()
        faults = []
        for name in list(self._engine.directory.vhosts):
            try:
                self._engine.editor.reload_certificate(name)
            except ConfigError as error:
                faults.append(str(error))
        if faults:
            raise CertificateFailed(f"{_KEPT} {'; '.join(faults)}")
        return plain(200)

    async def reload_managers(self, request: Request) -> Answer:
        await request.json()
        engine = self._engine
        api = engine.settings.bind.managers.api
        host = engine.settings.managers.host
        if api is None or api.tls_port is None or not certificate_names(host):
            raise BadRequest("TLS is not enabled for the API Server")
        faults = engine.certificates.api.reload() if engine.certificates else []
        if faults:
            raise CertificateFailed(f"{_KEPT} {'; '.join(map(str, faults))}")
        return plain(200)


class _RefusePut:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, request: Request, vhost: str, *below: str) -> Answer:
        found = self._engine.directory.vhosts.get(vhost)
        if found is None or not found.read_only:
            raise NotFound("Controller not found")
        raise Forbidden(f"The VirtualHost is read-only: [{vhost}]")


def refuse_put(engine: Engine) -> _RefusePut:
    """Nothing is put: what Server.xml declares says so (403), all else is an unknown route."""
    return _RefusePut(engine)


def array(body: Any) -> Sequence[Any]:
    """Raises BadRequest."""
    if not isinstance(body, list):
        raise BadRequest("Request body must be an array")
    return body


def obj(body: Any) -> dict[str, Any]:
    """Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("Request body must be an object")
    return body
