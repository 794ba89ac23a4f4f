"""An MPEG transport stream into frames (ISO/IEC 13818-1; wire catalogue 6.3). Sans-IO.

One program: the first of the PAT. Packets of 188 bytes. Whatever comes is read or counted; nothing is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from appliance.errors import RemoteProtocolError
from appliance.media.events import Splice, TimedMetadata
from appliance.media.track import Track
from appliance.protocols.mpegts.audio import AudioFramer, Framer, LatmFramer, OpusFramer, ac3, adts, mpeg_audio
from appliance.protocols.mpegts.psi import NULL_PID, PACKET, PAT_PID, SYNC
from appliance.protocols.mpegts.sections import ElementaryStream, SectionReader, parse_pat, parse_pmt
from appliance.protocols.mpegts.video import VideoReader
from appliance.protocols.scte35 import read_splice_insert

_PACKETS: Final = Struct(">I184s")
#: So many packets in a row must have their sync byte where it is due before they are believed after garbage.
_SURE: Final = 3
_WRAP: Final = 1 << 33
_HALF: Final = 1 << 32
#: The largest PES packet that is waited for: a key frame of 8K at the top level fits.
_MOST_VIDEO: Final = 8 * 1024 * 1024
_MOST_AUDIO: Final = 256 * 1024
#: A PES packet of a picture that says this size or more may go on in the next.
_FULL_PES: Final = 0xFF00
#: Payload of a transport packet without stuffing, which the last packet of a PES packet has: alone, and beside a clock.
_UNFINISHED: Final = (184, 176)
#: The same beside flags.
_FLAGS_ONLY: Final = 182
#: Stream types beside the media: timed metadata, and splice points.
_METADATA: Final = 0x15
_SCTE_35: Final = 0x86
_ID3: Final = b"ID3 "
#: Events that wait for their time, and for who reads them.
_MOST_EVENTS: Final = 32
#: One that lies further ahead (ticks) has a wrong time: it comes now.
_FAR_AWAY: Final = 300 * 90_000
_MOST_STREAMS: Final = 32


class Frame(NamedTuple):
    """One frame, in the order of ``contracts.Input.send``: times in ticks of the track, unwrapped: they go on over
    the 33 bits. ``duration`` 0 when it is not told."""

    track: Track
    pts: int
    dts: int
    keyframe: bool
    payload: bytes
    duration: int


@dataclass(slots=True)
class Damage:
    """What was wrong, counted. ``garbage`` bytes outside of packets, ``continuity`` gaps in the counters, ``tables``
    PSI sections that were broken, ``broken`` PES packets left out, ``scrambled`` and ``errors`` packets that can't be
    read or say of themselves that they are broken."""

    garbage: int = 0
    continuity: int = 0
    tables: int = 0
    broken: int = 0
    scrambled: int = 0
    errors: int = 0


class _Stream:
    """One PID with media: the PES packet that is being gathered."""

    __slots__ = (
        "audio", "entry", "expected", "held", "held_times", "most", "need", "parts", "pid", "row", "size", "video",
    )  # fmt: skip

    def __init__(self, row: ElementaryStream, video: VideoReader | None, audio: AudioFramer | None) -> None:
        self.row = row
        self.pid = row.pid
        self.video = video
        self.audio = audio
        self.most = _MOST_VIDEO if video else _MOST_AUDIO
        #: The head of the next packet if nothing special is in it; -1 before the first.
        self.expected = -1
        self.parts: list[bytes] = []
        self.size = 0
        #: With so many bytes it is whole (or over the limit).
        self.need = self.most
        self.entry = False
        #: A picture whose PES packet was as long as one can be: the next may go on with it.
        self.held = b""
        self.held_times: tuple[int, int, bool] = (0, 0, False)

    @property
    def is_media(self) -> bool:
        return self.video is not None or self.audio is not None

    @property
    def track(self) -> Track | None:
        return self.video.track if self.video else self.audio.track if self.audio else None


class Demuxer:
    """``receive_data`` takes bytes as they come and gives the frames that are whole.

    ``tracks`` are those whose configuration is known, in the order of the program map; ``complete`` tells whether that
    is all of them. Track ids are PIDs. ``unsupported`` names what is in the program and not carried.
    """

    def __init__(self) -> None:
        self.damage = Damage()
        self.packets = 0
        #: Version of the program map in use; -1 before the first.
        self.version = -1
        self.unsupported: dict[int, str] = {}
        self._rest = b""
        self._synced = False
        self._streams: dict[int, _Stream] = {}
        self._frames: list[Frame] = []
        #: Timed metadata and splice points whose time has come; who reads them empties it.
        self.events: list[TimedMetadata | Splice] = []
        self._coming: list[tuple[int | None, TimedMetadata | Splice]] = []
        self._splices: dict[int, SectionReader] = {}
        self._near: int | None = None
        self._pat = SectionReader()
        self._pmt = SectionReader()
        self._pmt_pid = -1
        self._map = b""
        #: Track id of the first, second … picture and sound: it stays when the PID changes.
        self._ids: dict[tuple[bool, int], int] = {}
        self._generations: dict[int, int] = {}
        self._counters: dict[int, int] = {}
        self._nobody = _Stream(ElementaryStream(NULL_PID, 0), None, None)
        self._nobody.need = 1 << 62
        self._current = self._nobody

    @property
    def tracks(self) -> list[Track]:
        return [stream.track for stream in self._streams.values() if stream.track is not None]

    @property
    def complete(self) -> bool:
        media = [stream for stream in self._streams.values() if stream.is_media]
        return bool(media) and all(stream.track is not None for stream in media)

    @property
    def has_video(self) -> set[int]:
        """Track ids of the pictures in the program, known or not."""
        return {stream.video.track_id for stream in self._streams.values() if stream.video}

    @property
    def skipped(self) -> int:
        """Frames and bytes of sound that could not be read."""
        readers = (stream.video or stream.audio for stream in self._streams.values())
        return sum(reader.skipped for reader in readers if reader)

    def receive_data(self, data: bytes) -> list[Frame]:
        """The frames that are whole with ``data``. Never raises."""
        frames = self._frames = []
        buffer = self._rest + data if self._rest else data
        at = 0
        while True:
            if not self._synced:
                at = self._find_sync(buffer, at)
                if not self._synced:
                    break
            end = len(buffer) - (len(buffer) - at) % PACKET
            at = self._run(buffer, at, end)
            if at >= end:
                break
        self._rest = buffer[at:]
        if self._coming:
            self._let_come()
        return frames

    def flush(self) -> list[Frame]:
        """The source has ended: what waits for the beginning of the next PES packet is given."""
        frames = self._frames = []
        for stream in self._streams.values():
            self._end(stream)
        return frames

    def _find_sync(self, buffer: bytes, at: int) -> int:
        """Where packets begin; where to look on when more bytes are needed for that."""
        begin, last = at, len(buffer) - _SURE * PACKET
        while at <= last:
            at = buffer.find(SYNC, at, last + 1)
            if at < 0:
                at = last + 1
                break
            if all(buffer[at + step * PACKET] == SYNC for step in range(1, _SURE)):
                self._synced = True
                break
            at += 1
        self.damage.garbage += at - begin
        return at

    def _run(self, buffer: bytes, at: int, end: int) -> int:
        """Read whole packets; where it stopped: ``end``, or where the sync byte was missing."""
        current = self._current
        for head, body in _PACKETS.iter_unpack(memoryview(buffer)[at:end]):
            if head == current.expected:
                # Most packets: the middle of a frame.
                current.expected = head - 15 if head & 15 == 15 else head + 1
                current.parts.append(body)
                current.size = size = current.size + 184
                if size >= current.need:
                    self._finish(current)
            elif head >> 24 != SYNC:
                self._synced = False
                self._current = current
                return at
            else:
                current = self._packet(head, body, current)
            at += PACKET
            self.packets += 1
        self._current = current
        return at

    def _packet(self, head: int, body: bytes, current: _Stream) -> _Stream:
        """One packet that is not just the next of the current stream. Gives the stream that is current then."""
        pid = head >> 8 & 0x1FFF
        stream = self._streams.get(pid)
        if stream is None and pid not in (PAT_PID, self._pmt_pid) and pid not in self._splices:
            return current
        if head & 0x8000C0:
            if head & 0x800000:
                self.damage.errors += 1
            else:
                self.damage.scrambled += 1
            if stream:
                self._drop(stream)
            return current
        jump = entry = False
        if head & 0x20:
            length = body[0]
            if length:
                jump, entry = body[1] & 0x80 != 0, body[1] & 0x40 != 0
            payload = body[1 + length :] if head & 0x10 else b""
        else:
            payload = body
        if not head & 0x10:
            if jump:
                self._counters.pop(pid, None)
                if stream is not None:
                    stream.expected = -1
            return current
        if stream is None:
            self._table(pid, head, payload, jump)
            return self._nobody
        self._take(stream, head, payload, jump, entry)
        return stream if stream.parts else self._nobody

    def _take(self, stream: _Stream, head: int, payload: bytes, jump: bool, entry: bool) -> None:
        """A packet of media that begins something, or has an adaptation field, or is not the next."""
        counter = head & 15
        if stream.expected >= 0 and counter != stream.expected & 15 and not jump:
            if counter == (stream.expected - 1) & 15 and not head & 0x400000:
                # Sent twice, as a sender may.
                return
            self.damage.continuity += 1
            self._drop(stream)
        stream.expected = SYNC << 24 | stream.pid << 8 | 0x10 | (counter + 1) & 15
        if head & 0x400000:
            if stream.parts:
                self._finish(stream)
            stream.entry = entry
            stream.parts = [payload]
            stream.size = len(payload)
            declared = payload[4] << 8 | payload[5] if len(payload) >= 6 else 0
            stream.need = declared + 6 if declared else stream.most
        elif stream.parts:
            stream.parts.append(payload)
            stream.size += len(payload)
        else:
            # The middle of what was dropped, or of what began before us.
            return
        if stream.size >= stream.need:
            self._finish(stream)

    # ---- PES packets

    def _drop(self, stream: _Stream) -> None:
        """A part is missing: the frame is given up."""
        if stream.parts or stream.held:
            self.damage.broken += 1
        stream.parts, stream.size, stream.need = [], 0, stream.most
        stream.held = b""
        if stream.audio is not None:
            stream.audio.cut()

    def _end(self, stream: _Stream) -> None:
        """Its last frame waits for a packet that never comes: it is given unless its end is missing."""
        parts = stream.parts
        if parts:
            last = len(parts[-1])
            # Only the last packet of a PES packet is stuffed: one that is not has a successor that never came.
            if stream.need == stream.most and (last in _UNFINISHED or (len(parts) == 1 and last == _FLAGS_ONLY)):
                self._drop(stream)
            else:
                self._finish(stream)
        self._release(stream)

    def _finish(self, stream: _Stream) -> None:
        data = b"".join(stream.parts)
        stream.parts, stream.size, stream.need = [], 0, stream.most
        if stream.pid == NULL_PID:
            return
        if len(data) < 9 or data[:3] != b"\0\0\1" or data[6] & 0xC0 != 0x80 or len(data) > stream.most:
            self.damage.broken += 1
            return
        declared = data[4] << 8 | data[5]
        begin = 9 + data[8]
        body = data[begin : declared + 6] if declared else data[begin:]
        if declared and len(data) < declared + 6:
            # Its last packets never came.
            self.damage.broken += 1
            return
        flags = data[7] >> 6
        pts = _stamp(data, 9) if flags & 2 and data[8] >= 5 else None
        dts = _stamp(data, 14) if flags == 3 and data[8] >= 10 else None
        if stream.video is not None:
            self._video(stream, body, pts, dts, declared)
        elif stream.audio is not None:
            self._audio(stream.audio, body, pts)
        elif body[:3] == b"ID3":
            self._expect(pts, TimedMetadata(body))

    def _expect(self, time: int | None, event: TimedMetadata | Splice) -> None:
        """``time`` as it was sent (33 bits), None: now. Beside the pictures, whose times are the measure."""
        near = self._near
        if time is not None and near is not None:
            time = near + (time - near + _HALF) % _WRAP - _HALF
        if len(self._coming) < _MOST_EVENTS:
            self._coming.append((time, event))

    def _let_come(self) -> None:
        near = self._near
        if near is None or len(self.events) >= _MOST_EVENTS:
            return
        waiting = [each for each in self._coming if each[0] is not None and near < each[0] < near + _FAR_AWAY]
        self.events += [event for time, event in self._coming if (time, event) not in waiting]
        self._coming = waiting

    def _audio(self, audio: AudioFramer, body: bytes, pts: int | None) -> None:
        if pts is not None:
            pts = self._unwrap(pts)
        for sound in audio.take(body, pts):
            self._frames.append(Frame(sound.track, sound.pts, sound.pts, True, sound.payload, sound.duration))

    def _video(self, stream: _Stream, body: bytes, pts: int | None, dts: int | None, declared: int) -> None:
        if pts is None:
            if not stream.held or len(stream.held) + len(body) > stream.most:
                self.damage.broken += 1
                stream.held = b""
                return
            stream.held += body
        else:
            self._release(stream)
            decode = self._unwrap(pts if dts is None else dts)
            show = decode if dts is None else decode + ((pts - dts + _HALF) % _WRAP - _HALF)
            stream.held, stream.held_times = body, (show, decode, stream.entry)
        if declared < _FULL_PES:
            self._release(stream)

    def _release(self, stream: _Stream) -> None:
        data, stream.held = stream.held, b""
        if data and stream.video is not None:
            pts, dts, entry = stream.held_times
            for picture in stream.video.take(data, pts, dts, entry):
                self._frames.append(Frame(*picture, 0))

    def _unwrap(self, value: int) -> int:
        near = self._near
        if near is not None:
            value = near + (value - near + _HALF) % _WRAP - _HALF
        self._near = value
        return value

    # ---- tables

    def _table(self, pid: int, head: int, payload: bytes, jump: bool) -> None:
        reader = self._pat if pid == PAT_PID else self._pmt if pid == self._pmt_pid else self._splices[pid]
        counter, before = head & 15, self._counters.get(pid)
        self._counters[pid] = counter
        if before is not None and not jump and counter != (before + 1) & 15:
            if counter == before:
                return
            self.damage.continuity += 1
            reader.drop()
        sections = reader.start(payload) if head & 0x400000 else reader.more(payload)
        for section in sections:
            try:
                if pid == PAT_PID:
                    self._read_pat(section)
                elif pid != self._pmt_pid:
                    self._read_splice(section)
                elif section[0] == 2:
                    self._read_pmt(section)
            except RemoteProtocolError:
                self.damage.tables += 1

    def _read_pat(self, section: bytes) -> None:
        programs = parse_pat(section)
        pid = next(iter(programs.values()), self._pmt_pid)
        if pid != self._pmt_pid:
            self._pmt_pid = pid
            self._pmt.drop()
            self._counters.pop(pid, None)
            self._map = b""

    def _read_pmt(self, section: bytes) -> None:
        if section == self._map:
            return
        program = parse_pmt(section)
        if program is None:
            return
        self._map = section
        self.version = program.version
        self._use([*program.streams[:_MOST_STREAMS]])

    def _read_splice(self, section: bytes) -> None:
        found = read_splice_insert(section)
        if found is not None:
            self._expect(found.time, Splice(found.id, found.out, found.duration // 90, found.auto_return))

    def _use(self, rows: list[ElementaryStream]) -> None:
        before, self._streams = self._streams, {}
        for stream in before.values():
            if stream.row not in rows:
                self._end(stream)
        for track in [each.track for each in before.values()]:
            if track is not None:
                self._generations[track.id] = track.generation + 1
        self.unsupported = {}
        self._splices = {
            row.pid: self._splices.get(row.pid) or SectionReader() for row in rows if row.stream_type == _SCTE_35
        }
        places = {True: 0, False: 0}
        for row in rows:
            if row.stream_type == _SCTE_35:
                continue
            known = before.get(row.pid)
            used = known if known is not None and known.row == row else self._stream(row, places)
            if used is not None:
                self._streams[row.pid] = used
                if used.is_media:
                    places[used.video is not None] += 1

    def _stream(self, row: ElementaryStream, places: dict[bool, int]) -> _Stream | None:
        is_video = row.stream_type in _VIDEO
        place = (is_video, places[is_video])
        track_id = self._ids.get(place, row.pid)
        try:
            stream = _Stream(row, *_reader(row, track_id, self._generations.get(track_id, 0)))
        except RemoteProtocolError as error:
            self.unsupported[row.pid] = str(error)
            return None
        if stream.is_media:
            self._ids.setdefault(place, track_id)
        return stream


_VIDEO: Final = {0x1B: "h264", 0x24: "h265"}


def _reader(row: ElementaryStream, track_id: int, generation: int) -> tuple[VideoReader | None, AudioFramer | None]:
    """Raises RemoteProtocolError for what is not carried."""
    kind, language = row.stream_type, row.language
    if kind == _METADATA and _ID3 in (row.registration, row.descriptor(0x26)[2:6], row.descriptor(0x25)[2:6]):
        return None, None
    if kind in _VIDEO:
        return VideoReader(track_id, _VIDEO[kind], generation), None
    if kind == 0x0F:
        return None, Framer(track_id, language, generation, adts, 7)
    if kind == 0x11:
        return None, LatmFramer(track_id, language, generation)
    if kind in (0x03, 0x04):
        return None, Framer(track_id, language, generation, mpeg_audio, 4)
    if kind == 0x81 or (kind == 0x06 and (row.registration == b"AC-3" or row.has(0x6A))):
        return None, Framer(track_id, language, generation, ac3, 8)
    if kind == 0x06 and row.registration == b"Opus":
        extension = row.descriptor(0x7F)
        code = extension[1] if len(extension) >= 2 and extension[0] == 0x80 else 2
        return None, OpusFramer(track_id, language, generation, code)
    raise RemoteProtocolError(f"{_NAMES.get(kind, f'stream type 0x{kind:02X}')} is not carried")


_NAMES: Final = {
    0x01: "MPEG-1 video", 0x02: "MPEG-2 video", 0x05: "private sections", 0x06: "private data", 0x10: "MPEG-4 video",
    0x15: "timed metadata", 0x20: "H.264 MVC", 0x21: "JPEG 2000", 0x33: "H.266", 0x42: "AVS video", 0x82: "DTS",
    0x87: "Enhanced AC-3", 0xEA: "VC-1",
}  # fmt: skip


def _stamp(data: bytes, at: int) -> int:
    return (
        (data[at] & 0x0E) << 29 | data[at + 1] << 22 | (data[at + 2] & 0xFE) << 14 | data[at + 3] << 7
        | data[at + 4] >> 1
    )  # fmt: skip
