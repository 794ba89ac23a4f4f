"""How the board learns which output streams are on the air: as a publisher of each kind of task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from appliance.engine.tasks.board import TaskBoard
from appliance.engine.tasks.configured import configured_tasks
from appliance.engine.tasks.kinds import Kind
from appliance.media.contracts import OutputStream, Progress
from appliance.media.track import Track

log = logging.getLogger("kiln.tasks")

#: The name of the input stream that an output is made of.
SourceName = Callable[[OutputStream], str]


class TaskPublisher:
    """On for each output stream whose application has the publisher that carries out tasks of ``kind``."""

    def __init__(self, kind: Kind, board: TaskBoard, source_name: SourceName) -> None:
        self.name = kind.publisher
        self._kind = kind
        self._board = board
        self._source_name = source_name

    def accepts(self, tracks: Sequence[Track]) -> bool:
        return bool(tracks)

    async def run(self, output: OutputStream, progress: Progress) -> None:
        wanted = await configured_tasks(self._kind, output, self._source_name(output))
        if output.stream.closed:
            return
        life = self._board.output_on(self._kind, output, wanted)
        try:
            await output.stream.wait_closed()
        finally:
            self._board.output_off(life)
