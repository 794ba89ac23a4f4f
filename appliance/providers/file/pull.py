"""A file of the media root as a live stream: paced in real time, begun again at its end."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import trio

from appliance.errors import BadRequest
from appliance.media.contracts import Context, Input, Progress, PullRequest
from appliance.settings import models
from appliance.storage.media_root import resolve
from appliance.transcoder.demux import Demuxers
from appliance.transcoder.playout.feeds import FileFeed
from appliance.transcoder.playout.model import ALWAYS, ChannelStream, Item, Program, Schedule
from appliance.transcoder.playout.player import Player


class FilePullSource:
    """``file://path``: below the provider's RootPath."""

    kind = "File"
    provider = "file"
    schemes = frozenset({"file"})

    def __init__(self, context: Context) -> None:
        self._context = context

    async def pull(self, request: PullRequest, target: Input, progress: Progress) -> None:
        """See ``contracts.PullSource``."""
        place = unquote(request.url.partition("://")[2])
        root = file_root(self._context, request.vhost, request.app)
        demuxers = Demuxers()
        try:
            player = Player(
                await looped(demuxers, root, request.name, place), label=target.label, root=root, demuxers=demuxers,
                find=lambda *_: None, clock=self._context.clock, open_input=lambda: target, gives_up=True,
            )  # fmt: skip
            await player.run(progress)
        finally:
            with trio.CancelScope(shield=True):
                await demuxers.close()


def file_root(context: Context, vhost: str, app: str) -> Path:
    """The folder that the files of an application lie in: RootPath, below the media root. Raises BadRequest."""
    root = context.media_root
    settings = context.directory.application(vhost, app)
    provider = settings.providers.file if isinstance(settings, models.Application) else None
    folder = provider.root_path if provider is not None else ""
    return resolve(root, folder) if folder.strip("/.") and Path(folder) != root else root


async def looped(demuxers: Demuxers, root: Path, name: str, place: str) -> Schedule:
    """One file, again and again. Raises Unavailable, BadRequest: nothing in it that can be carried."""
    feed = await FileFeed.open(demuxers, root, place, 0)
    feed.close()
    if feed.video is None and not feed.audios:
        raise BadRequest(f"{place}: there is no track in it that can be carried")
    stream = ChannelStream(name, video_track=feed.video is not None, audio_track=bool(feed.audios))
    return Schedule(stream, (Program("file", ALWAYS, 0, True, (Item(f"file://{place}"),)),))
