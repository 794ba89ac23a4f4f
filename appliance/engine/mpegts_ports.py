"""Which MPEG-TS ports are opened, and which stream each of them feeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from appliance.providers.mpegts import MpegtsPort, Target
from appliance.settings import models
from appliance.settings.ports import parse_ports

#: Virtual host, application.
Applications = Iterable[tuple[str, models.Application]]


def mpegts_ports(bind: models.BindMpegts, addresses: Sequence[str]) -> list[MpegtsPort]:
    """The ports of Bind on each address."""
    listed = parse_ports(bind.port, "udp")
    return [MpegtsPort(host, port, listed.protocol) for host in addresses for port in listed.numbers]


def mpegts_groups(applications: Applications) -> Iterator[MpegtsPort]:
    """The multicast groups that applications join, each at least once."""
    for _, _, stream in _streams(applications):
        if stream.group:
            for port in parse_ports(stream.port, "udp").numbers:
                yield MpegtsPort(stream.group, port, "udp", stream.interface)


def find_target(port: MpegtsPort, addresses: Sequence[str], applications: Applications) -> Target | None:
    """The first stream that is mapped to ``port``; ``${Port}`` in its name is the number."""
    group = "" if port.host in addresses else port.host
    for vhost, application, stream in _streams(applications):
        listed = parse_ports(stream.port, "udp")
        if stream.group == group and listed.protocol == port.protocol and port.port in listed.numbers:
            settings = application.providers.mpegts
            assert settings is not None
            return Target(vhost, application.name, stream.name.replace("${Port}", str(port.port)), settings)
    return None


def _streams(applications: Applications) -> Iterator[tuple[str, models.Application, models.MpegtsStream]]:
    for vhost, application in applications:
        for stream in application.providers.mpegts.streams if application.providers.mpegts else ():
            yield vhost, application, stream
