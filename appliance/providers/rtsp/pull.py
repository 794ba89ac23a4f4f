"""RTSP pull (catalogue 1.7, wire catalogue 6.6): the engine asks for a URL, a session brings its media."""

from __future__ import annotations

from urllib.parse import urldefrag

from appliance.errors import BadRequest, Unavailable
from appliance.media.contracts import Context, Input, Progress, PullRequest

SCHEMES = frozenset({"rtsp", "rtspc"})


class RtspPullSource:
    """Media come over the connection itself. A URL that ends in ``#transport=udp`` has them come by UDP; so does a
    server that sends no other way. Basic and Digest by the user and password of the URL."""

    kind = "RtspPull"
    provider = "rtsp_pull"
    schemes = SCHEMES

    def __init__(self, context: Context) -> None:
        self._context = context

    async def pull(self, request: PullRequest, target: Input, progress: Progress) -> None:
        """See ``contracts.PullSource``."""
        from appliance.providers.rtsp.session import UdpNotWanted

        url, fragment = urldefrag(request.url)
        if fragment not in ("", "transport=tcp", "transport=udp"):
            raise BadRequest("Could not parse url: after # may stand transport=tcp or transport=udp")
        self._context.egress.check_url(url, SCHEMES)
        first = fragment == "transport=udp"
        for udp in (first,) if fragment else (False, True):
            try:
                await self._session(url, request, target, progress, udp=udp)
                return
            except UdpNotWanted:
                continue
        raise Unavailable("the RTSP server does not send by the transport that is asked for")

    async def _session(
        self, url: str, request: PullRequest, target: Input, progress: Progress, *, udp: bool
    ) -> None:
        from appliance.protocols.rtsp.client import RtspClient
        from appliance.providers.rtsp.session import Session

        client = RtspClient(url)
        stream = await self._context.egress.open_tcp(client.host, client.port, request.timeout_ms / 1000)
        async with stream:
            await Session(client, stream, request, target, udp=udp).run(progress)
