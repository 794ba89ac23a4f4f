"""The tracks of all playlists as those of one stream: ids that don't collide, generations that go on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.errors import Unavailable
from appliance.media.track import MediaType, Track

_CONFIGURATION = ("codec", "timescale", "codec_config", "width", "height", "sample_rate", "channels")
_MOST_REMEMBERED = 256


class TrackNames:
    """The n-th picture or sound of a playlist is the same track of the stream, whatever its id is in the segments."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, MediaType, int], Track] = {}
        self._named: dict[Track, Track] = {}

    def of(self, playlist: int, track: Track, tracks: Sequence[Track]) -> Track:
        """``track`` of a playlist, whose ``tracks`` are these now, as that of the stream.

        Raises Unavailable when it has another codec than before: that is another stream.
        """
        named = self._named.get(track)
        if named is None:
            same = [each.id for each in tracks if each.media is track.media]
            number = same.index(track.id) if track.id in same else 0
            named = self._named[track] = self._name((playlist, track.media, number), track)
        return named

    def _name(self, place: tuple[int, MediaType, int], track: Track) -> Track:
        before = self._known.get(place)
        if before is None:
            made = msgspec.structs.replace(track, id=len(self._known), generation=0)
        elif all(getattr(before, name) == getattr(track, name) for name in _CONFIGURATION):
            made = before
        elif before.codec is not track.codec:
            raise Unavailable(f"the playlist went over from {before.codec} to {track.codec}: that is another stream")
        else:
            made = msgspec.structs.replace(track, id=before.id, generation=before.generation + 1)
        self._known[place] = made
        if len(self._named) >= _MOST_REMEMBERED:
            self._named.clear()
        return made
