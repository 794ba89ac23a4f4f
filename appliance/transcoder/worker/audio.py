"""Audio inside the worker: resample, pad holes with silence, encode. Cheap enough for the input's own thread."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.codec.context import CodecContext, Flags
from av.error import FFmpegError
from av.filter.graph import Graph

from appliance.errors import WorkerFault
from appliance.media.track import Codec
from appliance.transcoder.encoders import candidates
from appliance.transcoder.messages import RenditionStats
from appliance.transcoder.spec import EncodedTrack, RenditionSpec, output_channels, output_sample_rate
from appliance.transcoder.worker.outbox import Outbox
from appliance.transcoder.worker.video_encoder import reason

if TYPE_CHECKING:
    from typing import Any

    from av.audio.codeccontext import AudioCodecContext
    from av.packet import Packet

#: A hole up to this long is padded with silence; after a longer one time simply goes on later.
PAD_SECONDS = 1.0
#: Drift below the first is left alone, up to the second it is stretched away, above it is padded or cut.
DRIFT_SECONDS, HARD_SECONDS = 0.004, 0.03
_NOMINAL_FRAME = {Codec.AAC: 1024, Codec.OPUS: 960}
_SAMPLE_FORMAT = {"aac": "fltp", "libopus": "flt"}


def open_audio_encoder(name: str, spec: RenditionSpec, rate: int) -> AudioCodecContext:
    """Open FFmpeg's encoder ``name``. Raises WorkerFault with the reason."""
    try:
        context: AudioCodecContext = CodecContext.create(name, "w")  # type: ignore[assignment]
        context.sample_rate = rate
        context.layout = "mono" if output_channels(spec) == 1 else "stereo"
        context.format = _SAMPLE_FORMAT.get(name, "fltp")
        context.time_base = Fraction(1, rate)
        context.bit_rate = spec.bitrate or 128_000
        if name == "libopus":
            context.options = {
                "application": "lowdelay", "vbr": "off", "frame_duration": "20", "packet_loss": "10",
                "compression_level": "10",
            }  # fmt: skip
        context.flags |= Flags.global_header
        context.open()
    except (FFmpegError, ValueError, OSError) as error:
        raise WorkerFault(f"encoder {name} does not open: {reason(error)}") from None
    return context


class AudioRendition:
    """One audio encode. Frames come in order from one thread; times are exact sample counts of the output's rate."""

    def __init__(self, spec: RenditionSpec, outbox: Outbox) -> None:
        self.spec = spec
        self._outbox = outbox
        self._shape: tuple[int, str, str] | None = None
        self._resampler: AudioResampler | None = None
        self._steady: Graph | None = None
        self._context: AudioCodecContext | None = None
        self._rate = 0
        self._name = ""
        # Where the input is expected to go on (seconds), and the output (samples).
        self._expected: Fraction | None = None
        self._next: int | None = None
        self._started_at = 0
        self._announced = False
        self._in = 0
        self._made = 0
        self._bytes = 0

    def frame(self, frame: AudioFrame) -> None:
        """Raises FFmpegError or WorkerFault."""
        assert frame.pts is not None
        assert frame.time_base is not None
        self._in += 1
        begins = frame.pts * frame.time_base
        shape = (frame.sample_rate, frame.format.name, frame.layout.name)
        jumped = self._expected is not None and abs(begins - self._expected) > PAD_SECONDS
        if self._context is None:
            self._rate = output_sample_rate(self.spec, frame.sample_rate)
            self._name = (self.spec.encoders or candidates(self.spec.codec, self.spec.modules))[0]
            self._context = open_audio_encoder(self._name, self.spec, self._rate)
        if self._steady is None or jumped:
            self._steady = self._steady_graph(self._context)
        if shape != self._shape or jumped:
            self._convert(None)
            self._shape = shape
            self._resampler = self._make_resampler(shape)
        self._expected = begins + Fraction(frame.samples, frame.sample_rate)
        self._convert(frame)

    @property
    def _output_shape(self) -> tuple[int, str, str]:
        return self._rate, _SAMPLE_FORMAT.get(self._name, "fltp"), self._layout

    @property
    def _layout(self) -> str:
        return "mono" if output_channels(self.spec) == 1 else "stereo"

    def _make_resampler(self, shape: tuple[int, str, str]) -> AudioResampler | None:
        """To the encoder's rate, format and channels; None when the input has them already."""
        if shape == self._output_shape:
            return None
        rate, form, layout = self._output_shape
        return AudioResampler(format=form, layout=layout, rate=rate)

    def _convert(self, frame: AudioFrame | None) -> None:
        """``frame`` (None: the rest in the resampler) to the steady graph and on."""
        if self._resampler is not None:
            frames = self._resampler.resample(frame)
        else:
            frames = [frame] if frame is not None else []
        for converted in frames:
            if converted is not None and self._steady is not None:
                self._steady.push(converted)
                self._drain()

    def _steady_graph(self, context: AudioCodecContext) -> Graph:
        """Pads holes, stretches drift away and cuts frames of the encoder's size: its output has no seams."""
        rate, form, layout = self._output_shape
        graph = Graph()
        graph.threads = 1
        source = graph.add(
            "abuffer", f"sample_rate={rate}:sample_fmt={form}:channel_layout={layout}:time_base=1/{rate}"
        )
        resample = graph.add(
            "aresample",
            f"{rate}:async=1000:min_comp={DRIFT_SECONDS}:min_hard_comp={HARD_SECONDS}:"
            # Resampling from the start: to begin with it at the first drift would cost a seam.
            f"flags=res:linear_interp=0:out_sample_fmt={form}:out_chlayout={layout}",
        )
        chunk = graph.add("asetnsamples", f"n={context.frame_size or _NOMINAL_FRAME[self.spec.codec]}:p=0")
        graph.link_nodes(source, resample, chunk, graph.add("abuffersink")).configure()
        return graph

    def _drain(self) -> None:
        assert self._steady is not None
        assert self._context is not None
        while True:
            try:
                frame = self._steady.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(frame, AudioFrame)
            assert frame.pts is not None
            if self._next is None:
                self._started_at = frame.pts
            elif frame.pts < self._next:
                # After a jump back, or the rest of an older graph: already said.
                continue
            self._next = frame.pts + frame.samples
            frame.time_base = Fraction(1, self._rate)
            self._send(self._context.encode(frame))

    def _send(self, packets: list[Packet[Any]]) -> None:
        assert self._context is not None
        for packet in packets:
            assert packet.pts is not None
            duration = packet.duration or self._context.frame_size
            # Priming: what lies wholly before the first sample, or before the stream's beginning.
            if packet.pts < 0 or packet.pts + duration <= self._started_at:
                continue
            if not self._announced:
                self._announced = True
                self._outbox.track(self._track())
            if self._outbox.packet(self.spec.id, packet.pts, packet.pts, duration, True, packet):
                self._made += 1
                self._bytes += packet.size

    def _track(self) -> EncodedTrack:
        assert self._context is not None
        return EncodedTrack(
            id=self.spec.id,
            codec_config=self._context.extradata or b"",
            sample_rate=self._rate,
            channels=output_channels(self.spec),
            codec_string="opus" if self.spec.codec is Codec.OPUS else "mp4a.40.2",
            encoder=self._name,
        )

    def finish(self) -> None:
        """Send what the encoder still holds. Raises FFmpegError."""
        if self._context is not None:
            self._send(self._context.encode(None))

    @property
    def encoder(self) -> str:
        """FFmpeg's name of it; "" before the first frame."""
        return self._name

    @property
    def made(self) -> int:
        """Packets made."""
        return self._made

    @property
    def stats(self) -> RenditionStats:
        return RenditionStats(
            id=self.spec.id,
            encoder=self._name,
            frames_in=self._in,
            frames_out=self._made,
            bytes_out=self._bytes,
            output_dropped=self._outbox.dropped.get(self.spec.id, 0),
        )
