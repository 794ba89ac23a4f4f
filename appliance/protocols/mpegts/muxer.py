"""Packets of a stream into an MPEG transport stream (ISO/IEC 13818-1; wire catalogue 4.11). Sans-IO."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.errors import BadRequest
from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track
from appliance.protocols.mpegts.carriage import (
    SUPPORTED_CODECS,
    Wrap,
    descriptors,
    metadata_pointer,
    stream_type,
    wrapper,
)
from appliance.protocols.mpegts.psi import PACKET, PAT_PID, PAT_TABLE, PMT_TABLE, SYNC, section, section_packets

PROGRAM = 1
PMT_PID = 0x100
FIRST_PID = 0x101
CLOCK = 90_000
#: All times are this much later in the transport stream (90 kHz ticks): the clock reference runs ahead of the media,
#: and times a little below zero have their place.
TIME_OFFSET = CLOCK
#: The clock reference is this much before the decoding time that goes with it: what a receiver buffers.
REFERENCE_LEAD = CLOCK // 2
#: Tables are repeated after so many ticks of media.
TABLES_EVERY = CLOCK // 10
#: So long the clock reference may be missing: with the packet after it that is never over 100 ms.
REFERENCE_EVERY = CLOCK * 7 // 100

_WRAP = 1 << 33
_LONGEST_PES = 0xFFFF
_BODY = 184
#: What fills up a packet that has ``n`` bytes of payload: an adaptation field of that size.
_FILLERS = tuple(
    bytes((183 - used,)) + (b"\0" + b"\xff" * (182 - used) if used < 183 else b"") for used in range(_BODY)
)


class _Stream:
    """One elementary stream: its PID, its counter, its headers."""

    __slots__ = ("counter", "first", "middle", "pid", "stream_id", "stuffed", "track", "unbounded", "wrap")

    def __init__(self, pid: int, stream_id: int, track: Track) -> None:
        self.pid = pid
        self.stream_id = stream_id
        self.unbounded = track.is_video
        self.counter = 0
        high, low = pid >> 8, pid & 0xFF
        self.first = [bytes((SYNC, 0x40 | high, low, 0x30 | count)) for count in range(16)]
        self.middle = [bytes((SYNC, high, low, 0x10 | count)) for count in range(16)]
        self.stuffed = [bytes((SYNC, high, low, 0x30 | count)) for count in range(16)]
        self.use(track)

    def use(self, track: Track) -> None:
        self.wrap: Wrap = wrapper(track)
        self.track = track


class Muxer:
    """Makes one program of ``tracks``, in their order (PIDs from 0x101 on).

    Give every packet to ``packet`` in the order of decoding times: what comes back is whole 188-byte packets. Tables
    are put in by themselves: before the first packet, before each key frame of the video, and every 100 ms. The clock
    reference (PCR) is on the first video track, else on the first track. A packet whose Track is a new generation is a
    new version of the program map. ``events`` adds a stream of ID3 timed metadata: of event packets (tracks of codec
    ID3 that are not among ``tracks``), or fed by ``id3``; with ``late_events`` the program map lists it from the first
    event packet on, which is all the same to those that never see one.

    Raises BadRequest for tracks that can't be carried, and when there is none.
    """

    def __init__(self, tracks: Sequence[Track], *, events: bool = False, late_events: bool = False) -> None:
        if not tracks:
            raise BadRequest("no track to carry in a transport stream")
        self._streams: dict[int, _Stream] = {}
        videos = audios = 0
        for number, track in enumerate(tracks):
            if track.is_video:
                stream_id, videos = 0xE0 + (videos & 15), videos + 1
            elif track.codec in (Codec.OPUS, Codec.AC3, Codec.ID3):
                stream_id = 0xBD
            else:
                stream_id, audios = 0xC0 + (audios & 31), audios + 1
            self._streams[track.id] = _Stream(FIRST_PID + number, stream_id, track)
        clock = next((track for track in tracks if track.is_video), tracks[0])
        self._clock = self._streams[clock.id]
        self._has_video = clock.is_video
        own = next((one for one in self._streams.values() if one.track.codec is Codec.ID3), None)
        self._events: _Stream | None = own
        self._late_events = late_events and own is None
        if events and own is None:
            self._events = self._event_stream()
        self._version = 0
        self._pat = section_packets(
            PAT_PID, section(PAT_TABLE, 1, 0, bytes((0, PROGRAM, 0xE0 | PMT_PID >> 8, PMT_PID & 0xFF)))
        )
        self._pmt = self._program_map()
        self._pat_counter = self._pmt_counter = 0
        self._tables_due = -_WRAP
        self._reference_due = -_WRAP

    def tables(self) -> bytes:
        """PAT and PMT as they are now: at the head of a file or a segment. The next packet then needs none."""
        self._tables_due = _WRAP
        return self._tables()

    def packet(self, packet: Packet) -> bytes:
        """One access unit, with tables and clock reference where they are due; b"" for a track that is not carried.

        Raises BadRequest when a new codec configuration can't be carried.
        """
        track = packet.track
        stream = self._streams.get(track.id)
        if stream is None:
            if track.codec is not Codec.ID3 or not packet.payload:
                return b""
            tables = b""
            if self._events is None and self._late_events:
                self._events = self._event_stream()
                self._remap()
                tables = self._tables()
            if self._events is None:
                return b""
            return tables + self.id3(packet.pts * CLOCK // track.timescale, packet.payload)
        if track is not stream.track:
            self._change(stream, track)
        scale = track.timescale
        dts = packet.dts * CLOCK // scale + TIME_OFFSET
        pts = dts if packet.pts == packet.dts else packet.pts * CLOCK // scale + TIME_OFFSET
        chunks: list[bytes] = []
        is_clock = stream is self._clock
        starts = packet.keyframe and is_clock and self._has_video
        if self._tables_due == _WRAP:
            self._tables_due = dts + TABLES_EVERY
        elif starts or dts >= self._tables_due:
            chunks.append(self._tables())
            self._tables_due = dts + TABLES_EVERY
        reference: int | None = None
        if dts >= self._reference_due or (starts and dts > self._reference_due - REFERENCE_EVERY):
            self._reference_due = dts + REFERENCE_EVERY
            reference = dts - REFERENCE_LEAD
        elif is_clock and self._has_video:
            # Each picture has room for it: a receiver's clock is steadier so.
            self._reference_due = max(self._reference_due, dts + REFERENCE_EVERY)
            reference = dts - REFERENCE_LEAD
        if reference is not None and not is_clock:
            chunks.append(self._bare_reference(reference))
            reference = None
        self._packetise(stream, stream.wrap(packet), pts, dts, reference, packet.keyframe and track.is_video, chunks)
        return b"".join(chunks)

    def id3(self, time: int, tag: bytes) -> bytes:
        """An ID3v2 tag at ``time``, in 90 kHz ticks of the stream's own time (as ``pts * 90000 / timescale``).

        Raises BadRequest when there is no stream for it or the tag is too long for one PES packet.
        """
        stream = self._events
        if stream is None:
            raise BadRequest("this transport stream has no timed metadata")
        chunks: list[bytes] = []
        pts = time + TIME_OFFSET
        self._packetise(stream, tag, pts, pts, None, True, chunks)
        return b"".join(chunks)

    # Tables.

    def _tables(self) -> bytes:
        pat, self._pat_counter = _numbered(self._pat, self._pat_counter)
        pmt, self._pmt_counter = _numbered(self._pmt, self._pmt_counter)
        return pat + pmt

    def _program_map(self) -> list[bytes]:
        pid = self._clock.pid
        streams = list(self._streams.values())
        if self._events is not None and self._events not in streams:
            streams.append(self._events)
        about = metadata_pointer(PROGRAM) if self._events is not None else b""
        body = bytes((0xE0 | pid >> 8, pid & 0xFF, 0xF0 | len(about) >> 8, len(about) & 0xFF)) + about
        for stream in streams:
            text = descriptors(stream.track)
            kind = stream_type(stream.track)
            body += bytes((kind, 0xE0 | stream.pid >> 8, stream.pid & 0xFF, 0xF0 | len(text) >> 8, len(text) & 0xFF))
            body += text
        if len(body) > 1021 - 9:
            raise BadRequest("too many tracks for one program of a transport stream")
        return section_packets(PMT_PID, section(PMT_TABLE, PROGRAM, self._version, body))

    def _change(self, stream: _Stream, track: Track) -> None:
        stream.use(track)
        self._remap()
        self._tables_due = -_WRAP

    def _remap(self) -> None:
        """The program map has changed."""
        self._version = (self._version + 1) & 31
        self._pmt = self._program_map()

    def _event_stream(self) -> _Stream:
        track = Track(id=-1, media=MediaType.DATA, codec=Codec.ID3, timescale=CLOCK)
        return _Stream(FIRST_PID + len(self._streams), 0xBD, track)

    # Packets.

    def _bare_reference(self, reference: int) -> bytes:
        """A packet of the clock's PID without payload: its counter stands still."""
        stream = self._clock
        head = bytes((SYNC, stream.pid >> 8, stream.pid & 0xFF, 0x20 | stream.counter - 1 & 15, 183, 0x10))
        return (head + _reference(reference)).ljust(PACKET, b"\xff")

    def _packetise(
        self, stream: _Stream, unit: bytes, pts: int, dts: int, reference: int | None, random_access: bool,
        chunks: list[bytes],
    ) -> None:  # fmt: skip
        stamps = b"\x84\x80\x05" + _stamp(0x21, pts)
        if dts != pts:
            stamps = b"\x84\xc0\x0a" + _stamp(0x31, pts) + _stamp(0x11, dts)
        # A receiver that knows the length has the picture whole with its last packet, not with the next picture.
        length = len(stamps) + len(unit)
        if length > _LONGEST_PES:
            if not stream.unbounded:
                raise BadRequest("an access unit is too long for a PES packet")
            length = 0
        data = b"\0\0\1" + bytes((stream.stream_id, length >> 8, length & 0xFF)) + stamps + unit
        count = stream.counter
        size = len(data)
        # The first packet, which may have an adaptation field with the clock and the mark of a key frame.
        field = b""
        if reference is not None:
            field = (b"\x50" if random_access else b"\x10") + _reference(reference)
        elif random_access:
            field = b"\x40"
        if field:
            room = _BODY - 1 - len(field)
            if size < room:
                field += b"\xff" * (room - size)
                room = size
            chunks.append(stream.first[count])
            chunks.append(bytes((len(field),)) + field)
            chunks.append(data[:room])
            at = room
        elif size < _BODY:
            chunks.append(stream.first[count])
            chunks.append(_FILLERS[size])
            chunks.append(data)
            at = size
        else:
            head = bytearray(stream.middle[count])
            head[1] |= 0x40
            chunks.append(bytes(head))
            chunks.append(data[:_BODY])
            at = _BODY
        count = count + 1 & 15
        middle = stream.middle
        add = chunks.append
        last = size - (size - at) % _BODY
        for start in range(at, last, _BODY):
            add(middle[count])
            add(data[start : start + _BODY])
            count = count + 1 & 15
        if last < size:
            add(stream.stuffed[count])
            add(_FILLERS[size - last])
            add(data[last:])
            count = count + 1 & 15
        stream.counter = count


def _numbered(packets: list[bytes], counter: int) -> tuple[bytes, int]:
    """Packets of a table with their continuity counters, and the next one."""
    text = b""
    for packet in packets:
        text += packet[:3] + bytes((0x10 | counter,)) + packet[4:]
        counter = counter + 1 & 15
    return text, counter


def _stamp(guard: int, value: int) -> bytes:
    """33 bits in five bytes (2.4.3.6)."""
    return bytes((
        guard | value >> 29 & 0x0E, value >> 22 & 0xFF, value >> 14 & 0xFE | 1, value >> 7 & 0xFF,
        value << 1 & 0xFE | 1,
    ))  # fmt: skip


def _reference(value: int) -> bytes:
    """A clock reference at 90 kHz, its 27 MHz extension zero."""
    return ((value & _WRAP - 1) << 15 | 0x7E00).to_bytes(6, "big")


__all__ = ["SUPPORTED_CODECS", "TIME_OFFSET", "Muxer"]
