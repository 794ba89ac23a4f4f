"""Compressed input on its way to a worker."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.media.clock import NANOSECONDS
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.track import Track
from appliance.transcoder import messages


class Feeder:
    """Frames the input's packets for the worker, within its credit; drops up to a key frame when there is none."""

    def __init__(self, stream: Stream) -> None:
        self.sent = 0
        self.sent_bytes = 0
        self.dropped = 0
        self._stream = stream
        self._known: dict[int, Track] = {}
        self._skipping: set[int] = set()

    def lapse(self) -> None:
        """The reader lost packets: say so for every video track."""
        self._skipping.update(id for id, track in self._known.items() if track.is_video)

    def pack(self, packets: Sequence[Packet], wanted: set[int], room: int, consumed_ns: int | None) -> memoryview:
        """``room``: bytes of credit; ``consumed_ns``: how far the worker has come. Counts what this call did."""
        self.sent = self.sent_bytes = self.dropped = 0
        pieces: list[bytes] = []
        for packet in packets:
            track = packet.track
            if track.id not in wanted:
                self._known.pop(track.id, None)
                continue
            if self._known.get(track.id) is not track:
                if track.is_video and not packet.keyframe:
                    self.dropped += 1
                    continue
                self._known[track.id] = track
                pieces.append(messages.pack_track(track))
            size = len(packet.payload)
            ahead = 0 if consumed_ns is None else packet.dts * NANOSECONDS // track.timescale - consumed_ns
            if self.sent_bytes + size > room or (consumed_ns and ahead > messages.INPUT_CREDIT_NS):
                self.dropped += 1
                self._skipping.add(track.id)
                continue
            if track.id in self._skipping:
                if not packet.keyframe:
                    self.dropped += 1
                    continue
                self._skipping.discard(track.id)
                pieces.append(messages.pack_lapse(track.id))
            head = messages.packet_head(track.id, packet.pts, packet.dts, packet.duration, packet.keyframe, size)
            pieces.append(head)
            pieces.append(packet.payload)
            self.sent += 1
            self.sent_bytes += size
        return memoryview(b"".join(pieces))
