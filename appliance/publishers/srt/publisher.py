"""The SRT publisher: output streams that players call for."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from appliance.errors import NotFound, Unavailable
from appliance.media.contracts import OutputStream, Progress
from appliance.media.packet import Packet
from appliance.media.track import Track
from appliance.protocols.mpegts.psi import NULL_PACKET
from appliance.publishers.srt.programs import CARRIED, DEFAULT_PLAYLIST, Program, Viewer, tracks_of

log = logging.getLogger("kiln.srt")

#: How often a stream without packets shows that it lives, and looks for callers that are gone (s).
_LOOK_EVERY = 1.0
#: A player gets so much time to take the end of a stream (s).
_LAST_WORDS = 1.0


class Outlet:
    """One output stream on the air."""

    def __init__(self, output: OutputStream) -> None:
        self.output = output
        self.programs: dict[str, Program] = {}
        self._wanted = trio.Event()

    def check(self, playlist: str) -> list[Track]:
        """The tracks behind ``playlist`` ("" is the default). Raises NotFound and Unavailable. Any thread may ask."""
        tracks = tracks_of(self.output, playlist or DEFAULT_PLAYLIST)
        if tracks is None:
            raise NotFound(f"stream {self.output.label} has no playlist {playlist!r} for SRT")
        if not tracks:
            raise Unavailable(f"stream {self.output.label} has no track that MPEG-TS can carry")
        return tracks

    def join(self, playlist: str, viewer: Viewer) -> None:
        """Raises NotFound, Unavailable and BadRequest."""
        name = playlist or DEFAULT_PLAYLIST
        program = self.programs.get(name)
        if program is None:
            program = self.programs[name] = Program(self.output.label, name, self.check(name))
        program.join(viewer)
        self._wanted.set()

    @property
    def viewers(self) -> list[Viewer]:
        """May be looked at from another thread."""
        return [viewer for program in tuple(self.programs.values()) for viewer in tuple(program.viewers)]

    def sweep(self) -> bool:
        """Whether anybody watches. Callers that are gone leave, and so do programs without any."""
        for program in list(self.programs.values()):
            for viewer in tuple(program.viewers):
                if not viewer.socket.alive:
                    program.leave(viewer)
                    viewer.socket.close()
            if not program.viewers:
                del self.programs[program.name]
        return bool(self.programs)

    async def wait_wanted(self) -> None:
        self._wanted = trio.Event()
        if not self.programs:
            await self._wanted.wait()


class SrtPublisher:
    """``outlets`` are the streams on the air by (virtual host, application, name)."""

    name = "srt"

    def __init__(self) -> None:
        self.outlets: dict[tuple[str, str, str], Outlet] = {}

    def accepts(self, tracks: Sequence[Track]) -> bool:
        return any(track.codec in CARRIED for track in tracks)

    def viewers(self, vhost: str, app: str, name: str) -> int:
        """How many players watch the stream."""
        outlet = self.outlets.get((vhost, app, name))
        return len(outlet.viewers) if outlet else 0

    def watching(self, vhost: str, app: str) -> int:
        """How many players an application has."""
        return sum(
            len(outlet.viewers) for place, outlet in self.outlets.copy().items() if place[:2] == (vhost, app)
        )

    async def run(self, output: OutputStream, progress: Progress) -> None:
        """Serve ``output`` until its stream is closed."""
        place = output.vhost, output.app, output.name
        outlet = self.outlets[place] = Outlet(output)
        try:
            while not output.stream.closed:
                progress()
                with trio.move_on_after(_LOOK_EVERY):
                    await outlet.wait_wanted()
                if outlet.programs:
                    await self._serve(outlet, progress)
            for viewer in outlet.viewers:
                await viewer.socket.drain(_LAST_WORDS / max(1, len(outlet.viewers)), NULL_PACKET)
        finally:
            if self.outlets.get(place) is outlet:
                del self.outlets[place]
            for viewer in outlet.viewers:
                viewer.socket.close()

    async def _serve(self, outlet: Outlet, progress: Progress) -> None:
        """While anybody watches."""
        stream = outlet.output.stream
        reader = stream.reader("srt")
        try:
            while outlet.sweep():
                progress()
                packets: list[Packet] | None = None
                with trio.move_on_after(_LOOK_EVERY):
                    packets = await reader.receive()
                if packets is None:
                    continue
                if not packets:
                    return
                sent = sum(program.packets(packets) for program in tuple(outlet.programs.values()))
                outlet.output.traffic.sent_bytes += sent
        finally:
            reader.close()


__all__ = ["Outlet", "SrtPublisher"]
