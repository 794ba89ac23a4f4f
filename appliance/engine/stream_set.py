"""All output streams of one input, with the one transcoder that serves them."""

from __future__ import annotations

import logging
from functools import partial

import trio

from appliance.engine.input_stream import InputStream
from appliance.engine.not_built import NOT_ENFORCED
from appliance.engine.outputs import Output
from appliance.engine.profiles import plan_outputs
from appliance.engine.renditions import RenditionTable
from appliance.engine.services import Services
from appliance.errors import ConfigError
from appliance.media.contracts import Progress
from appliance.settings import models
from appliance.supervisor import ChildSpec, Restart
from appliance.transcoder.client import MOST_DECODER_THREADS, Transcoder

log = logging.getLogger("kiln.output")

#: An output whose encoders are not all up by then goes on the air with what it has (seconds).
PREPARE_DEADLINE = 10.0


class StreamSet:
    """Made when the input's tracks are known; closed with it."""

    def __init__(
        self, source: InputStream, settings: models.Application, services: Services, taken: set[str],
        refused: frozenset[str],
    ) -> None:  # fmt: skip
        self.source = source
        self.transcoder: Transcoder | None = None
        self.by_name: dict[str, Output] = {}
        self._settings = settings
        self._services = services
        self._refused = refused
        url = source.source.url if source.stream.raw else None
        self._renditions = RenditionTable(url, settings.output_profiles.hwaccels.encoder)
        for plan in plan_outputs(_profiles_for(source, settings), source.tracks, source.name):
            if plan.name in taken or plan.name in self.by_name:
                log.error("output name in use, profile left out stream=%s profile=%s output=%s", source.label,
                          plan.profile, plan.name)  # fmt: skip
                continue
            output = Output(source, plan, settings, self._publish)
            try:
                self._renditions.add(output)
            except ConfigError as error:
                log.error("profile left out stream=%s profile=%s reason=%s", source.label, plan.profile, error)
                continue
            self.by_name[plan.name] = output

    def open(self) -> None:
        for output in self.by_name.values():
            output.open()
        if self._renditions.specs:
            self._start_transcoder()

    def close(self) -> None:
        """The input is over. Encoded outputs end when their transcoder has given what it held."""
        if self.transcoder is None:
            self._close_outputs()
        elif self.source.stream.raw:
            self.transcoder.stop()

    def _close_outputs(self) -> None:
        for output in self.by_name.values():
            output.close()

    def _start_transcoder(self) -> None:
        source = self.source
        raw = source.stream.raw
        transcoder = self.transcoder = Transcoder(
            self._services.pool,
            label=source.label,
            epoch=source.stream.epoch,
            clock=self._services.clock,
            source_url=source.source.url if raw else None,
            input_stream=None if raw else source.stream,
            renditions=self._renditions.specs,
            sink=self._renditions,
            decoder_threads=_decoder_threads(self._settings.output_profiles.decodes),
        )

        async def run(progress: Progress) -> None:
            await transcoder.run(progress)
            self._close_outputs()

        async def start_late(progress: Progress) -> None:
            """What is missing after the deadline doesn't keep the rest off the air."""
            with trio.move_on_after(PREPARE_DEADLINE):
                await source.stream.wait_closed()
                return
            for output in self.by_name.values():
                if output.output is None:
                    log.error("output starts without all its tracks stream=%s missing=%s", output.label,
                              ",".join(output.missing))  # fmt: skip
                    output.start()

        names = self._services.child_name
        supervisor = self._services.supervisor
        supervisor.add(
            ChildSpec(name=names("transcoder", source.label), start=run, restart=Restart.TRANSIENT, order=20)
        )
        supervisor.add(
            ChildSpec(name=names("prepare", source.label), start=start_late, restart=Restart.TEMPORARY, order=30)
        )

    def _publish(self, output: Output) -> None:
        """An output is prepared: every publisher that is on and can carry it gets a child."""
        delivered = output.output
        assert delivered is not None
        tracks = list(delivered.stream.tracks.values())
        for publisher in self._services.publishers:
            if getattr(self._settings.publishers, publisher.name, None) is None or not publisher.accepts(tracks):
                continue
            if publisher.name.upper() in self._refused:
                log.error("not published: a policy guards it that is %s stream=%s publisher=%s", NOT_ENFORCED,
                          output.label, publisher.name)  # fmt: skip
                continue
            self._services.supervisor.add(
                ChildSpec(
                    name=self._services.child_name(publisher.name, output.label),
                    start=partial(publisher.run, delivered),
                    restart=Restart.TRANSIENT,
                    order=40,
                )
            )


def _profiles_for(source: InputStream, settings: models.Application) -> tuple[models.OutputProfile, ...]:
    """The output profiles that hold for this input: none where its provider passes everything on."""
    rtmp = settings.providers.rtmp
    passed_on = source.source.kind == "Rtmp" and rtmp is not None and rtmp.passthrough_output_profile
    return () if passed_on else settings.profiles


def _decoder_threads(decodes: models.Decodes) -> int:
    """0 lets the size of the picture decide, which the setting's default leaves it to."""
    asked = decodes.thread_count
    return 0 if asked == models.Decodes().thread_count else max(0, min(asked, MOST_DECODER_THREADS))
