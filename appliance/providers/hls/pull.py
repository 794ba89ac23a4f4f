"""HLS pull: the engine asks for a URL, playlists and segments bring its media (RFC 8216)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from urllib.parse import urldefrag

import trio

from appliance.errors import BadRequest, KilnError
from appliance.media.contracts import Context, Finished, Input, Progress, PullRequest
from appliance.protocols.m3u8 import MasterPlaylist, MediaPlaylist, Rendition, Variant
from appliance.providers.hls.fetch import SCHEMES, Fetcher
from appliance.providers.hls.follow import Follower
from appliance.providers.hls.lane import Lane, Signal
from appliance.providers.hls.names import TrackNames
from appliance.providers.hls.player import Player

_CHOICE: Final = re.compile(r"(variant|bandwidth)=(\d{1,10})")
_CARRIED: Final = ("avc1", "avc3", "hvc1", "hev1", "av01", "vp09", "mp4a", "opus", "ac-3")


class HlsPullSource:
    """Live playlists are played from three target durations before their end on, those with an end from their
    beginning, both in real time; their end is the end of the stream (Finished).

    Of a master playlist the variant of the highest bandwidth is taken; ``#variant=N`` behind the URL takes the N-th
    (from 0), ``#bandwidth=N`` the highest that needs no more than N bit/s. Sound in a group of its own comes along.
    """

    kind = "HlsPull"
    provider = "hls_pull"
    schemes = SCHEMES

    def __init__(self, context: Context) -> None:
        self._egress = context.egress

    async def pull(self, request: PullRequest, target: Input, progress: Progress) -> None:
        """See ``contracts.PullSource``."""
        url, fragment = urldefrag(request.url)
        choice = _CHOICE.fullmatch(fragment)
        if fragment and choice is None:
            raise BadRequest("Could not parse url: after # may stand variant=N or bandwidth=N")
        self._egress.check_url(url, SCHEMES)
        timeout = request.timeout_ms / 1000
        async with self._egress.http_client(timeout=timeout) as client:
            fetcher = Fetcher(self._egress, client, timeout, progress)
            base, playlist = await fetcher.playlist(url, timeout)
            names = TrackNames()
            signal = Signal()
            lanes = [Lane(signal)]
            tasks: list[Callable[[], Awaitable[None]]] = []
            if isinstance(playlist, MediaPlaylist):
                follower = Follower(fetcher, url, lanes[0], names, 0, target.label, timeout)
                tasks.append(partial(follower.run, (base, playlist)))
            else:
                variant, sound = choose(playlist, choice[1] if choice else "", int(choice[2]) if choice else 0)
                urls = [fetcher.joined(base, variant.uri)]
                if sound is not None:
                    urls.append(fetcher.joined(base, sound.uri))
                    lanes.append(Lane(signal))
                for number, each in enumerate(urls):
                    follower = Follower(
                        fetcher, each, lanes[number], names, number, target.label, timeout,
                        skip_audio=number == 0 and sound is not None,
                    )  # fmt: skip
                    tasks.append(follower.run)
            await _together(tasks, Player(target, lanes, signal).run)
            raise Finished("the playlist has ended")


async def _together(feeders: list[Callable[[], Awaitable[None]]], play: Callable[[], Awaitable[None]]) -> None:
    """Until ``play`` ends. A fault of any of them ends all, and is raised."""
    fault: KilnError | None = None

    async def contain(task: Callable[[], Awaitable[None]], scope: trio.CancelScope, ends: bool) -> None:
        nonlocal fault
        try:
            await task()
        except KilnError as error:
            fault = fault or error
            scope.cancel()
        if ends:
            scope.cancel()

    async with trio.open_nursery() as nursery:
        for feeder in feeders:
            nursery.start_soon(contain, feeder, nursery.cancel_scope, False)
        nursery.start_soon(contain, play, nursery.cancel_scope, True)
    if fault is not None:
        raise fault


def choose(playlist: MasterPlaylist, by: str, number: int) -> tuple[Variant, Rendition | None]:
    """The variant ``by`` ``variant`` or ``bandwidth`` ("": the best that can be carried), and where its sound is (None:
    in the variant itself). Raises BadRequest."""
    variants = playlist.variants
    if by == "variant":
        if number >= len(variants):
            raise BadRequest(f"the master playlist has {len(variants)} variants, there is no variant {number}")
        chosen = variants[number]
    else:
        carried = [each for each in variants if all(codec.lower().startswith(_CARRIED) for codec in each.codecs)]
        if not carried:
            codecs = ", ".join(sorted({codec for variant in variants for codec in variant.codecs}))
            raise BadRequest(f"no variant of the master playlist can be carried: {codecs[:200]}")
        fitting = [each for each in carried if each.bandwidth <= number] if by else carried
        if fitting:
            chosen = max(fitting, key=lambda variant: variant.bandwidth)
        else:
            chosen = min(carried, key=lambda variant: variant.bandwidth)
    group = [each for each in playlist.audio if chosen.audio and each.group == chosen.audio]
    sound = next((each for each in group if each.default), group[0] if group else None)
    return chosen, sound if sound is not None and sound.uri and sound.uri != chosen.uri else None
