"""What the APIs and the status page see of the engine: to look at, not to change.

The engine's own objects satisfy these protocols as they are. Mappings are in the order of creation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from appliance.media.contracts import OutputStream, Source
from appliance.media.measure import Measured
from appliance.media.stream import Stream
from appliance.media.track import Track
from appliance.settings import models
from appliance.settings.schema import Raw


class PlannedTrackView(Protocol):
    """What a track of an output stream is meant to be; ``encode`` is None for one that is passed on."""

    @property
    def id(self) -> int: ...
    @property
    def encode(self) -> models.VideoEncode | models.AudioEncode | models.ImageEncode | None: ...


class PlanView(Protocol):
    @property
    def tracks(self) -> Sequence[PlannedTrackView]: ...


class OutputView(Protocol):
    """An output stream; ``output`` is None until all its tracks are known. ``measured`` is by track id."""

    @property
    def name(self) -> str: ...
    @property
    def plan(self) -> PlanView: ...
    @property
    def output(self) -> OutputStream | None: ...
    @property
    def measured(self) -> Mapping[int, Measured]: ...


class StreamSetView(Protocol):
    """The output streams of one input, by name."""

    @property
    def by_name(self) -> Mapping[str, OutputView]: ...


class InputView(Protocol):
    """An input stream, visible once it is ``prepared`` (before, ``stream`` raises). ``created_wall`` is nanoseconds
    since 1970."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> Source: ...
    @property
    def created_wall(self) -> int: ...
    @property
    def prepared(self) -> bool: ...
    @property
    def stream(self) -> Stream: ...
    @property
    def tracks(self) -> Sequence[Track]: ...
    @property
    def measured(self) -> Mapping[int, Measured]: ...
    @property
    def outputs(self) -> StreamSetView | None: ...


class ApplicationView(Protocol):
    """``raw`` is the application as it was written, to be echoed."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> models.Application: ...
    @property
    def raw(self) -> Raw: ...
    @property
    def inputs(self) -> Mapping[str, InputView]: ...


class VirtualHostView(Protocol):
    """``raw`` is the virtual host as it was written, without its applications."""

    @property
    def name(self) -> str: ...
    @property
    def raw(self) -> Raw: ...
    @property
    def applications(self) -> Mapping[str, ApplicationView]: ...


class DirectoryView(Protocol):
    """Who exists."""

    @property
    def vhosts(self) -> Mapping[str, VirtualHostView]: ...

    def vhost_for_host(self, host: str) -> str | None:
        """The virtual host that answers to this host name (no port)."""


class BoundView(Protocol):
    """What is listened on."""

    def port(self, service: str, scheme: str) -> int | None:
        """The port of ``llhls``, ``api``, ``rtmp`` …, None when it is not open."""


class EngineView(Protocol):
    """The whole engine. ``settings`` is the Server.xml."""

    @property
    def settings(self) -> models.Server: ...
    @property
    def directory(self) -> DirectoryView: ...
    @property
    def bound(self) -> BoundView: ...
