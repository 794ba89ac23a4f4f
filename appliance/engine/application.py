"""One application: the input streams that are live in it and the output streams made of them."""

from __future__ import annotations

import logging

from appliance.engine.hold_rules import HoldRules
from appliance.engine.input_loss import InputLoss
from appliance.engine.input_stream import InputStream, LiveOutput
from appliance.engine.not_built import NOT_ENFORCED, refused_providers, refused_publishers
from appliance.engine.services import Services
from appliance.engine.stream_set import StreamSet
from appliance.errors import Forbidden, NameTaken
from appliance.media.contracts import Source
from appliance.settings import models
from appliance.settings.names import check_name
from appliance.settings.schema import Raw
from appliance.supervisor import ChildSpec, Restart

log = logging.getLogger("kiln.application")

#: A source that has sent nothing for so long (ns) gives way to another of the same name.
SILENT_NS = 3_000_000_000

#: Which provider setting lets a source kind in.
PROVIDER_OF_KIND = {
    "Rtmp": "rtmp", "Capture": "capture", "SRT": "srt", "MPEGTS": "mpegts", "File": "file", "Scheduled": "schedule",
    "Multiplex": "multiplex",
}  # fmt: skip


class Application:
    """``raw`` is the application as it was written, for echoing. It and ``settings`` change by ``change`` alone.

    ``dynamic``: it was made of the virtual host's template because a stream came for it.
    """

    def __init__(
        self, vhost: models.VirtualHost, settings: models.Application, raw: Raw, services: Services, *,
        dynamic: bool = False,
    ) -> None:  # fmt: skip
        self.vhost = vhost.name
        self.name = settings.name
        self.settings = settings
        self.raw = raw
        self.dynamic = dynamic
        #: Monotonic ns at which it was last seen to have a stream.
        self.used = services.clock.monotonic()
        self.inputs: dict[str, InputStream] = {}
        self._services = services
        self._refused_providers = refused_providers(vhost)
        self._refused_publishers = refused_publishers(vhost)

    @property
    def label(self) -> str:
        return f"{self.vhost}/{self.name}"

    def check_input(self, name: str, source: Source, *, replace: bool = False) -> InputStream | None:
        """See ``contracts.Directory.check_input``. The stream that has the name and would give way."""
        check_name("stream", name)
        provider = PROVIDER_OF_KIND.get(source.kind, "")
        if provider and getattr(self.settings.providers, provider) is None:
            raise Forbidden(f"application {self.label} takes no {source.kind} input")
        if source.kind.upper() in self._refused_providers:
            raise Forbidden(f"{source.kind} input of virtual host {self.vhost} is guarded by a policy {NOT_ENFORCED}")
        present = self.inputs.get(name)
        if present is not None:
            silent = self._services.clock.monotonic() - present.last_packet > SILENT_NS
            if not (replace or silent or present.abandoned):
                raise NameTaken(f"stream {self.label}/{name} is on already, from {present.source.url}")
        return present

    def open_input(self, name: str, source: Source, *, replace: bool = False) -> InputStream:
        """See ``contracts.Directory.open_input``."""
        present = self.check_input(name, source, replace=replace)
        opened = InputStream(
            self.vhost, self.name, name, source, clock=self._services.clock,
            make_outputs=self._make_outputs, on_close=self._forget, watch_loss=self._watch_loss,
        )  # fmt: skip
        if present is not None:
            reason = "replaced by another source" if replace else "silent, and another source came"
            if present.loss is not None and present.loss.rules.outlives_source:
                self.inputs[name] = opened
                opened.inherit(present, reason)
            else:
                present.cancel(reason)
        self.inputs[name] = opened
        return opened

    def output(self, name: str) -> LiveOutput | None:
        """The live output stream of that name (its hub may not exist yet)."""
        for each in self.inputs.values():
            if each.outputs is not None:
                found = each.outputs.by_name.get(name)
                if found is not None:
                    return found
        return None

    def change(self, settings: models.Application, raw: Raw) -> None:
        """From now on these settings hold. What they leave as it was goes on without a gap: inputs whose provider has
        not changed, outputs of profiles that have not, and publishers likewise."""
        before, self.settings, self.raw = self.settings, settings, raw
        self.dynamic = False
        for each in list(self.inputs.values()):
            provider = PROVIDER_OF_KIND.get(each.source.kind, "")
            # A capture is one of several; who holds it knows whether it is meant.
            if provider not in ("", "capture") and (
                getattr(before.providers, provider) != getattr(settings.providers, provider)
            ):
                each.cancel("the settings of its provider were changed")
        for each in list(self.inputs.values()):
            each.keep_by(HoldRules.of(settings, each.source.kind))
        live = [each.outputs for each in self.inputs.values() if each.outputs is not None]
        for outputs in live:
            outputs.drop_changed(settings)
        for outputs in live:
            outputs.take_up(settings)

    def close(self, reason: str) -> None:
        for each in list(self.inputs.values()):
            each.cancel(reason)

    def _make_outputs(self, source: InputStream) -> StreamSet:
        return StreamSet(source, self.settings, self._services, self._taken, self._refused_publishers)

    def _watch_loss(self, stream: InputStream) -> InputLoss | None:
        """Keep the stream when its source fails, if the settings say so."""
        rules = HoldRules.of(self.settings, stream.source.kind)
        if rules is None:
            return None
        services = self._services
        loss = InputLoss(stream, rules, services.slates, services.alarms)
        for kind, start in (("input-loss", loss.run), ("slate", loss.make_ready)):
            name = services.child_name(kind, stream.label)
            services.supervisor.add(ChildSpec(name=name, start=start, restart=Restart.TRANSIENT, order=30))
        return loss

    def _taken(self) -> set[str]:
        """The names of all live output streams."""
        return {name for each in self.inputs.values() if each.outputs for name in each.outputs.by_name}

    def _forget(self, closed: InputStream, reason: str) -> None:
        if self.inputs.get(closed.name) is closed:
            del self.inputs[closed.name]
