"""Who may publish over SRT, and as what. Looked at twice: while the caller waits, and once it is connected."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from appliance.errors import Forbidden, KilnError, NotFound, RemoteProtocolError
from appliance.media.contracts import Directory, Source
from appliance.protocols.srt_streamid import StreamId, parse_stream_id

if TYPE_CHECKING:
    from appliance.settings.models import Application
    from appliance.settings.models.providers import SrtProvider as SrtSettings


class BadMode(RemoteProtocolError):
    """The caller wants to play where streams come in."""

    status = 405


class KeyWrong(Forbidden):
    """The publish key is missing or wrong."""

    status = 401


@dataclass(frozen=True, slots=True)
class Wish:
    """Where a caller wants to publish, found and allowed as far as settings go."""

    vhost: str
    app: str
    stream: str
    settings: SrtSettings

    @property
    def replace(self) -> bool:
        return not self.settings.block_duplicate_stream_name


def source_of(peer: str, address: str) -> Source:
    return Source("SRT", f"SRT://{peer}", address)


def find(directory: Directory, stream_id: str, mapped: str) -> Wish:
    """``mapped`` is what the port takes from callers without a stream id (``vhost/app/stream``, "" for nothing).

    Raises the errors of ``appliance.errors``.
    """
    if not stream_id and not mapped:
        raise RemoteProtocolError("there is no stream id, and this port is not mapped to a stream")
    wanted = parse_stream_id(stream_id or mapped)
    if wanted.mode == "request":
        raise BadMode("this port takes streams in: play from the SRT publisher's port")
    vhost, application = resolve(directory, wanted)
    settings = application.providers.srt
    if settings is None:
        raise Forbidden(f"SRT is off in application {wanted.app!r}")
    key = settings.publish_key
    given = wanted.parameter("key").encode("utf-8", "surrogateescape")
    # What a port is mapped to is said by its owner: the port is the key.
    if stream_id and key and not hmac.compare_digest(key.encode(), given):
        raise KeyWrong("the publish key is missing or wrong")
    return Wish(vhost, wanted.app, wanted.stream, settings)


def resolve(directory: Directory, wanted: StreamId) -> tuple[str, Application]:
    """Names of virtual hosts before domains. Raises NotFound."""
    application = directory.arriving(wanted.host, wanted.app)
    vhost: str | None = wanted.host
    if application is None:
        vhost = directory.vhost_for_host(wanted.host)
        if vhost is None:
            raise NotFound(f"there is no virtual host for {wanted.host!r}")
        application = directory.arriving(vhost, wanted.app)
        if application is None:
            raise NotFound(f"there is no application {wanted.app!r}")
    assert vhost is not None
    return vhost, cast("Application", application)


def reject_code(error: KilnError) -> int:
    """SRT's reject code for ``error`` (access_control.h): 1000 and the HTTP status."""
    return 1000 + error.status
