"""All output streams of one input, with the one transcoder that serves them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import trio

from appliance.engine.input_stream import InputStream
from appliance.engine.not_built import NOT_ENFORCED
from appliance.engine.outputs import Output
from appliance.engine.profiles import PlannedOutput, plan_outputs
from appliance.engine.renditions import RenditionTable
from appliance.engine.services import Services
from appliance.errors import ConfigError
from appliance.media.contracts import Progress, Publisher
from appliance.settings import models
from appliance.supervisor import Child, ChildSpec, Restart
from appliance.transcoder.client import MOST_DECODER_THREADS, Transcoder

log = logging.getLogger("kiln.output")

#: An output whose encoders are not all up by then goes on the air with what it has (seconds).
PREPARE_DEADLINE = 10.0
#: The setting of a provider that may have everything passed on, by the kind of source.
_MAY_PASS_ON = {"Rtmp": "rtmp", "File": "file"}


class StreamSet:
    """Made when the input's tracks are known; closed with it. ``taken`` are the output names that are in use."""

    def __init__(
        self, source: InputStream, settings: models.Application, services: Services, taken: Callable[[], set[str]],
        refused: frozenset[str],
    ) -> None:  # fmt: skip
        self.source = source
        self.transcoder: Transcoder | None = None
        self.by_name: dict[str, Output] = {}
        self._settings = settings
        self._services = services
        self._taken = taken
        self._refused = refused
        self._transcoder_child: Child | None = None
        self._url = source.source.url if source.stream.raw else None
        self._profiles: dict[str, models.OutputProfile | None] = {}
        #: Children of the publishers by output name and publisher.
        self._published: dict[tuple[str, Publisher], Child] = {}
        self._renditions = self._no_renditions()

    def open(self) -> None:
        self.take_up(self._settings)

    def drop_changed(self, settings: models.Application) -> None:
        """End the outputs whose profile is not the same under ``settings``, and those whose encoders have to change."""
        before, self._settings = self._settings, settings
        wanted = _profiles_for(self.source, settings) or (None,)
        encoders_change = _encoding(before) != _encoding(settings)
        for output in list(self.by_name.values()):
            encoded = not all(track.bypass for track in output.plan.tracks)
            if self._profiles[output.name] not in wanted or (encoders_change and encoded):
                self._drop(output)
            else:
                output.use(settings)
                self._republish(output, before)
        if encoders_change:
            # What is bypassed alone wants nothing of the old ones.
            self._stop_transcoder()
            self._renditions = self._no_renditions()

    def take_up(self, settings: models.Application) -> None:
        """Make the outputs that are missing under ``settings``."""
        self._settings = settings
        made = []
        for profile in _profiles_for(self.source, settings) or (None,):
            if profile in self._profiles.values():
                continue
            for plan in plan_outputs((profile,) if profile else (), self.source.tracks, self.source.name):
                output = self._make(plan if profile else replace(plan, playlists=self.source.source.playlists))
                if output is not None:
                    self._profiles[output.name] = profile
                    made.append(output)
        for output in made:
            output.open()
        self._update_transcoder()
        for output in made:
            self._renditions.catch_up(output)
        if any(output.output is None for output in made):
            self._start_late(made)

    def change_source(self, source: InputStream) -> None:
        """Another input feeds the same hub."""
        self.source = source
        for output in self.by_name.values():
            output.source = source
            if output.output is not None:
                output.output.source = source.source

    def close(self) -> None:
        """The input is over. Encoded outputs end when their transcoder has given what it held."""
        if self.transcoder is None:
            self._close_outputs()
        elif self.source.stream.raw:
            self.transcoder.stop()

    def _close_outputs(self) -> None:
        for output in self.by_name.values():
            output.close()

    def _no_renditions(self) -> RenditionTable:
        return RenditionTable(self._url, self._settings.output_profiles.hwaccels.encoder)

    def _make(self, plan: PlannedOutput) -> Output | None:
        if plan.name in self.by_name or plan.name in self._taken():
            log.error("output name in use, profile left out stream=%s profile=%s output=%s", self.source.label,
                      plan.profile, plan.name)  # fmt: skip
            return None
        output = Output(self.source, plan, self._settings, self._publish)
        try:
            self._renditions.add(output)
        except ConfigError as error:
            log.error("profile left out stream=%s profile=%s reason=%s", self.source.label, plan.profile, error)
            return None
        self.by_name[plan.name] = output
        return output

    def _drop(self, output: Output) -> None:
        log.info("output off stream=%s profile=%s", output.label, output.plan.profile)
        del self.by_name[output.name], self._profiles[output.name]
        self._renditions.remove(output)
        output.close()
        # Publishers end by themselves when the hub closes: viewers get the end, or a new life of the same name.
        self._published = {key: child for key, child in self._published.items() if key[0] != output.name}

    # The transcoder

    def _update_transcoder(self) -> None:
        specs = self._renditions.specs
        if not specs:
            self._stop_transcoder()
        elif self.transcoder is None:
            self._start_transcoder()
        elif {spec.id for spec in specs} != {spec.id for spec in self.transcoder.renditions}:
            self.transcoder.set_renditions(specs)

    def _stop_transcoder(self) -> None:
        child, self._transcoder_child, self.transcoder = self._transcoder_child, None, None
        if child is not None:
            self._services.supervisor.release(child)

    def _start_transcoder(self) -> None:
        source = self.source
        raw = source.stream.raw
        transcoder = self.transcoder = Transcoder(
            self._services.pool,
            label=source.label,
            epoch=source.stream.epoch,
            clock=self._services.clock,
            source_url=self._url,
            input_stream=None if raw else source.stream,
            renditions=self._renditions.specs,
            sink=self._renditions,
            decoder_threads=_decoder_threads(self._settings.output_profiles.decodes),
        )

        async def run(progress: Progress) -> None:
            await transcoder.run(progress)
            if self.transcoder is transcoder:
                self._close_outputs()

        self._transcoder_child = self._services.supervisor.add(
            ChildSpec(
                name=self._services.child_name("transcoder", source.label),
                start=run,
                restart=Restart.TRANSIENT,
                order=20,
            )
        )

    def _start_late(self, outputs: Sequence[Output]) -> None:
        async def start_late(progress: Progress) -> None:
            """What is missing after the deadline doesn't keep the rest off the air."""
            with trio.move_on_after(PREPARE_DEADLINE):
                await self.source.stream.wait_closed()
                return
            for output in outputs:
                if output.output is None and self.by_name.get(output.name) is output:
                    log.error("output starts without all its tracks stream=%s missing=%s", output.label,
                              ",".join(output.missing))  # fmt: skip
                    output.start()

        name = self._services.child_name("prepare", self.source.label)
        self._services.supervisor.add(
            ChildSpec(name=name, start=start_late, restart=Restart.TEMPORARY, order=30)
        )

    # The publishers

    def _publish(self, output: Output) -> None:
        """An output is prepared: every publisher that is on and can carry it gets a child."""
        for publisher in self._services.publishers:
            self._publish_by(publisher, output)

    def _publish_by(self, publisher: Publisher, output: Output) -> None:
        delivered = output.output
        assert delivered is not None
        tracks = list(delivered.stream.tracks.values())
        if getattr(self._settings.publishers, publisher.name, None) is None or not publisher.accepts(tracks):
            return
        if publisher.name.upper() in self._refused:
            log.error("not published: a policy guards it that is %s stream=%s publisher=%s", NOT_ENFORCED,
                      output.label, publisher.name)  # fmt: skip
            return
        self._published[output.name, publisher] = self._services.supervisor.add(
            ChildSpec(
                name=self._services.child_name(publisher.name, output.label),
                start=partial(publisher.run, delivered),
                restart=Restart.TRANSIENT,
                order=40,
            )
        )

    def _republish(self, output: Output, before: models.Application) -> None:
        """The settings of publishers have changed, perhaps: those begin anew, are switched on, or off."""
        if output.output is None:
            return
        for publisher in self._services.publishers:
            old = getattr(before.publishers, publisher.name, None)
            new = getattr(self._settings.publishers, publisher.name, None)
            if old == new:
                continue
            ended = self._published.pop((output.name, publisher), None)
            self._publish_by(publisher, output)
            # A new life takes the place of the old one, where there is one: it is there before the old one goes.
            if ended is not None:
                self._services.supervisor.release(ended)


def _encoding(settings: models.Application) -> tuple[models.HwAccel, int]:
    """What all encoders of an application share."""
    profiles = settings.output_profiles
    return profiles.hwaccels.encoder, _decoder_threads(profiles.decodes)


def _profiles_for(source: InputStream, settings: models.Application) -> tuple[models.OutputProfile, ...]:
    """The output profiles that hold for this input: none where its provider passes everything on."""
    provider = getattr(settings.providers, _MAY_PASS_ON.get(source.source.kind, ""), None)
    passed_on = source.source.passthrough or (provider is not None and provider.passthrough_output_profile)
    return () if passed_on else settings.profiles


def _decoder_threads(decodes: models.Decodes) -> int:
    """0 lets the size of the picture decide, which the setting's default leaves it to."""
    asked = decodes.thread_count
    return 0 if asked == models.Decodes().thread_count else max(0, min(asked, MOST_DECODER_THREADS))
