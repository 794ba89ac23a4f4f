"""``/box/v1/certificates``: what the TLS ports show, and what is kept to be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from appliance.access.roles import Role
from appliance.api.box.config import CHANGED, how_to_change, refused_document, told_outcome
from appliance.api.contracts import FLAG, NAME, TEXT, TIME, Contract, array, obj
from appliance.api.envelope import Answer, created, plain, success
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.certificate_store import OWN, CertificateStore, Checked, Known
from appliance.engine.certificates import expiry
from appliance.errors import BadRequest
from appliance.media.clock import Clock
from appliance.net.certificate import CertificateInfo
from appliance.settings.export import ConfigFaults

PATH = "/box/v1/certificates"
MOST_NAMES = 100
_CERTIFICATE = obj(
    "id shown usedBy", id=TEXT, path=TEXT, source=TEXT, subject=TEXT, issuer=TEXT, names=array(TEXT), notBefore=TIME,
    notAfter=TIME, selfSigned=FLAG, fingerprint=TEXT, serial=TEXT, chain=array(TEXT), usedBy=array(TEXT),
    shown=array(obj("port host", port=TEXT, host=TEXT)), warning=TEXT, error=TEXT, warnings=array(TEXT),
)  # fmt: skip
_PEM = obj("certificate key", certificate=TEXT, key=TEXT, chain=TEXT)
_HOST = re.compile(r"[A-Za-z0-9*_.:][A-Za-z0-9*_.:-]{0,252}")
_UPLOAD = obj("name certificate key", name=NAME, certificate=TEXT, key=TEXT, chain=TEXT)


class CertificatesApi:
    """Handlers over the certificates of one engine."""

    def __init__(self, store: CertificateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> Iterator[Route]:
        kept = (409, 413, 507)
        listed = Contract(response=array(_CERTIFICATE))
        one = Contract(response=_CERTIFICATE, statuses=(404,))
        uploaded = Contract(_UPLOAD, _CERTIFICATE, success=201, statuses=kept)
        checked = Contract(_PEM, _CERTIFICATE, statuses=(413,))
        made = Contract(obj("name", name=NAME, names=array(TEXT)), _CERTIFICATE, success=201, statuses=kept)
        query = {"confirm-within": "s; see /box/v1/config"}
        assigned = Contract(obj(vhost=NAME, managers=FLAG), CHANGED, query=query, statuses=(403, 404, 409, 503, 507))
        deleted = Contract(statuses=(404, 409, 507))
        yield Route("GET", PATH, self.all, Role.VIEWER, listed)
        yield Route("POST", PATH, self.upload, Role.ADMIN, uploaded)
        yield Route("POST", f"{PATH}:check", self.check, Role.ADMIN, checked)
        yield Route("POST", f"{PATH}:selfSigned", self.make, Role.ADMIN, made)
        yield Route("GET", f"{PATH}/{{s}}", self.one, Role.VIEWER, one)
        yield Route("POST", f"{PATH}/{{a}}:assign", self.assign, Role.ADMIN, assigned)
        yield Route("DELETE", f"{PATH}/{{s}}", self.delete, Role.ADMIN, deleted)

    async def all(self, request: Request) -> Answer:
        return success([self._told(known) for known in await self._store.all()])

    async def one(self, request: Request, name: str) -> Answer:
        return success(self._told(await self._store.one(name)))

    async def upload(self, request: Request) -> Answer:
        """Checked first: a bad one changes nothing."""
        body = _texts(await request.json(), ("name", "certificate", "key"), ("chain",))
        checked = await self._checked(body)
        return created(self._told(await self._store.put(body["name"], checked)) | {"warnings": list(checked.warnings)})

    async def check(self, request: Request) -> Answer:
        checked = await self._checked(_texts(await request.json(), ("certificate", "key"), ("chain",)))
        return success(_described(checked.chain) | {"warnings": list(checked.warnings)})

    async def make(self, request: Request) -> Answer:
        body = _object(await request.json(), ("name", "names"))
        name, names = body.get("name"), body.get("names", [])
        if not isinstance(name, str):
            raise BadRequest('"name" is required, a string')
        if not isinstance(names, list) or len(names) > MOST_NAMES or not all(_is_host(each) for each in names):
            raise BadRequest(f'"names" must be an array of up to {MOST_NAMES} host names and addresses')
        return created(self._told(await self._store.make(name, names)))

    async def assign(self, request: Request, name: str) -> Answer:
        body = _object(await request.json(), ("vhost", "managers"))
        _, within = how_to_change(request)
        vhost, managers = body.get("vhost", ""), body.get("managers", False)
        if not isinstance(vhost, str) or not isinstance(managers, bool) or bool(vhost) == managers:
            raise BadRequest('Either "vhost" is the name of a virtual host, or "managers" is true')
        try:
            outcome = await self._store.assign(name, vhost=vhost, confirm_within=within)
        except ConfigFaults as error:
            return refused_document(error)
        return success(told_outcome(outcome, dry=False, within=within))

    async def delete(self, request: Request, name: str) -> Answer:
        await self._store.delete(name)
        return plain(200)

    async def _checked(self, body: dict[str, str]) -> Checked:
        certificate, key, chain = (body.get(key, "").encode() for key in ("certificate", "key", "chain"))
        return await self._store.check(certificate, key, chain)

    def _told(self, known: Known) -> dict[str, Any]:
        source = "self-signed" if known.id == OWN else "stored" if known.id else "file"
        told: dict[str, Any] = {
            "id": known.id, "source": source, "usedBy": list(known.used_by),
            "shown": [{"port": port, "host": host} for port, host in known.shown],
        }  # fmt: skip
        if source == "file":
            told["path"] = str(known.path)
        if known.error:
            return told | {"error": known.error}
        warning = expiry(known.chain[0], self._clock.wall() / 1e9)
        return told | _described(known.chain) | ({"warning": warning} if warning else {})


def _described(chain: tuple[CertificateInfo, ...]) -> dict[str, Any]:
    leaf = chain[0]
    return {
        "chain": [info.subject for info in chain[1:]], "fingerprint": leaf.fingerprint, "issuer": leaf.issuer,
        "names": list(leaf.names), "notAfter": _time(leaf.not_after), "notBefore": _time(leaf.not_before),
        "selfSigned": leaf.self_signed, "serial": leaf.serial, "subject": leaf.subject,
    }  # fmt: skip


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _object(body: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadRequest("Request body must be an object")
    unknown = sorted(set(body) - set(names))
    if unknown:
        raise BadRequest(f"Unknown key: {unknown[0][:128]}")
    return body


def _texts(body: Any, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, str]:
    found = _object(body, (*required, *optional))
    for name in (*required, *(each for each in optional if each in found)):
        if not isinstance(found.get(name), str):
            raise BadRequest(f'"{name}" must be a string')
    return found


def _is_host(name: Any) -> bool:
    return isinstance(name, str) and _HOST.fullmatch(name) is not None
