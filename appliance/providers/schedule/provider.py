"""One scheduled channel as an input stream."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

import trio

from appliance.errors import KilnError
from appliance.media.contracts import Context, Input, Progress, Source
from appliance.transcoder.demux import Demuxers
from appliance.transcoder.playout.model import Schedule
from appliance.transcoder.playout.player import OnAir, Player

RETRY = 1.0
KIND = "Scheduled"


class ScheduledChannel:
    """``root`` is the folder of its files, ``alarms`` where it says what it can't play."""

    def __init__(
        self, context: Context, vhost: str, app: str, schedule: Schedule, root: Path, alarms: MutableMapping[str, str]
    ) -> None:
        self.vhost = vhost
        self.app = app
        self.schedule = schedule
        self.label = f"{vhost}/{app}/{schedule.stream.name}"
        self._context = context
        self._root = root
        self._alarms = alarms
        self._alarm = f"channel:{self.label}"
        self._player: Player | None = None

    async def run(self, progress: Progress) -> None:
        """Be on the air; on the engine's own ends of it (deleted, replaced) once more."""
        demuxers = Demuxers()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell)
                while True:
                    player = self._player = Player(
                        self.schedule, label=self.label, root=self._root, demuxers=demuxers,
                        find=self._context.directory.output, clock=self._context.clock, open_input=self._open_input,
                    )  # fmt: skip
                    try:
                        await player.run(progress)
                    except KilnError as error:
                        self._alarms[self._alarm] = f"channel {self.label} is off the air: {error}"
                    progress()
                    await trio.sleep(RETRY)
        finally:
            self._player = None
            self._alarms.pop(self._alarm, None)
            with trio.CancelScope(shield=True):
                await demuxers.close()

    def change(self, schedule: Schedule) -> None:
        """Its programs are others from now on; ``schedule.stream`` is the same."""
        self.schedule = schedule
        if self._player is not None:
            self._player.change(schedule)

    @property
    def on_air(self) -> OnAir | None:
        return self._player.on_air if self._player is not None else None

    def _open_input(self) -> Input:
        stream = self.schedule.stream
        source = Source(KIND, passthrough=stream.bypass_transcoder)
        return self._context.directory.open_input(self.vhost, self.app, stream.name, source)

    async def _tell(self) -> None:
        """Keep the alarm as it is."""
        while True:
            player = self._player
            if player is not None and player.trouble:
                text = f"channel {self.label} can't play {player.trouble}"
                if self._alarms.get(self._alarm) != text:
                    self._alarms[self._alarm] = text
            elif player is not None and player.on_air is not None:
                self._alarms.pop(self._alarm, None)
            await trio.sleep(RETRY)
