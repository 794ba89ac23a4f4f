"""RTMP pull (catalogue 1.7): play a stream of another server and feed it to the engine."""

from __future__ import annotations

import trio

from appliance.errors import BadRequest, Unavailable
from appliance.media.contracts import Context, Input, Progress, PullRequest
from appliance.media.url import Url
from appliance.protocols.rtmp.client import ClientEvent, Ended, Refused, RtmpClient, Started
from appliance.protocols.rtmp.events import Audio, Metadata, Video
from appliance.providers.rtmp.ingest import Ingest

SCHEMES = frozenset({"rtmp", "rtmps"})
READ_SIZE = 64 * 1024


class RtmpPullSource:
    """The path's last part, with the query, is the stream; what stands before it is the application."""

    kind = "RtmpPull"
    provider = "rtmp"
    schemes = SCHEMES

    def __init__(self, context: Context) -> None:
        self._egress = context.egress

    async def pull(self, request: PullRequest, target: Input, progress: Progress) -> None:
        """See ``contracts.PullSource``."""
        url = self._egress.check_url(request.url, SCHEMES)
        app, stream = _names(url)
        timeout = request.timeout_ms / 1000
        open_ = self._egress.open_tls if url.scheme == "rtmps" else self._egress.open_tcp
        connection = await open_(url.host, url.port, timeout)
        client = RtmpClient(f"{url.scheme}://{url.authority}/{app}", app, stream, play=True)
        ingest = Ingest(target, url.authority)
        try:
            await _play(connection, client, ingest, timeout, progress)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Unavailable(f"the connection to {url.authority} broke: {error.__cause__ or error}") from error
        finally:
            await trio.aclose_forcefully(connection)


async def _play(
    connection: trio.abc.Stream, client: RtmpClient, ingest: Ingest, timeout: float, progress: Progress
) -> None:
    """Until the server ends the stream. Raises Unavailable, RemoteProtocolError, trio.BrokenResourceError."""
    while True:
        with trio.move_on_after(timeout) as waiting:
            if out := client.data_to_send():
                await connection.send_all(out)
            data = await connection.receive_some(READ_SIZE)
        if waiting.cancelled_caught:
            raise Unavailable(f"the RTMP server is silent for {timeout:g} s")
        if not data:
            raise Unavailable("the RTMP server closed the connection")
        progress()
        for event in client.receive_data(bytes(data)):
            if _take(event, ingest):
                return


def _take(event: ClientEvent, ingest: Ingest) -> bool:
    """Whether the stream is over."""
    match event:
        case Video():
            ingest.video(event.timestamp, event.body)
        case Audio():
            ingest.audio(event.timestamp, event.body)
        case Metadata():
            ingest.metadata(event.values)
        case Refused():
            raise Unavailable(f"the RTMP server refused: {event.code} {event.description}".rstrip())
        case Ended():
            return True
        case Started():
            return False
    return False


def _names(url: Url) -> tuple[str, str]:
    app, _, stream = url.path.strip("/").rpartition("/")
    if not app or not stream:
        raise BadRequest("Could not parse url: not rtmp://host[:port]/application/stream")
    return app, f"{stream}?{url.query}" if url.query else stream


