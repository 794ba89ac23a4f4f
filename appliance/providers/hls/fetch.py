"""Playlists, segments and keys over HTTP: every URL is checked before it is asked for, every answer is bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urldefrag, urljoin

import trio

from appliance.errors import BadRequest, KilnError, RemoteProtocolError, Unavailable
from appliance.media.contracts import Egress
from appliance.protocols.m3u8 import LARGEST, ByteRange, Key, MasterPlaylist, MediaPlaylist, PlaylistReader

if TYPE_CHECKING:
    import httpx

SCHEMES: Final = frozenset({"http", "https"})
MAX_REDIRECTS: Final = 3
#: Bytes.
MOST_SEGMENT: Final = 32 * 1024 * 1024
MOST_INIT: Final = 1024 * 1024
SLICE: Final = 64 * 1024
_SMALL_SLICE: Final = 16 * 1024
_KEYS: Final = 8
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Take = Callable[[bytes], Awaitable[None]]


class Fetcher:
    """``timeout`` in seconds for each step of a request. Errors are BadRequest (may not be reached, can never be
    read), Unavailable and RemoteProtocolError; messages show no path and no query, for they may hold secrets."""

    def __init__(self, egress: Egress, client: httpx.AsyncClient, timeout: float, progress: Callable[[], None]) -> None:
        self._egress = egress
        self._client = client
        self._timeout = timeout
        self._progress = progress
        self._keys: dict[str, bytes] = {}

    async def playlist(self, url: str, within: float) -> tuple[str, MasterPlaylist | MediaPlaylist]:
        """The playlist, and the URL that its URIs are relative to."""
        reader = PlaylistReader()

        async def take(chunk: bytes) -> None:
            for at in range(0, len(chunk), _SMALL_SLICE):
                reader.receive_data(chunk[at : at + _SMALL_SLICE])
                await trio.lowlevel.checkpoint()

        final = await self._get(url, "the playlist", LARGEST, within, take)
        return final, reader.finish()

    async def media(
        self, base: str, uri: str, place: ByteRange | None, key: Key | None, number: int, within: float,
        most: int = MOST_SEGMENT,
    ) -> bytes:  # fmt: skip
        """A segment or init section, decrypted. ``number`` is what stands in for an IV that isn't told."""
        if place is not None and place.size > most:
            raise RemoteProtocolError(f"the playlist has a byte range of {place.size} bytes")
        parts = bytearray()

        async def take(chunk: bytes) -> None:
            parts.extend(chunk)

        await self._get(self.joined(base, uri), "a segment", most, within, take, place)
        if key is None:
            return bytes(parts)
        return await self._decrypted(bytes(parts), base, key, number, within)

    def joined(self, base: str, uri: str) -> str:
        """``uri`` as the playlist at ``base`` means it. Raises BadRequest when it leads to where nobody may go."""
        try:
            joined = urljoin(base, uri)
        except ValueError as error:
            raise BadRequest("the playlist, or a redirect, has a URI that is none") from error
        self._egress.check_url(joined, SCHEMES)
        return joined

    async def _decrypted(self, data: bytes, base: str, key: Key, number: int, within: float) -> bytes:
        if key.method != "AES-128" or key.format != "identity":
            raise BadRequest(f"the media are encrypted with {key.method[:20]} ({key.format[:40]}), not with AES-128")
        secret = await self._key(self.joined(base, key.uri), within)
        if not data or len(data) % 16:
            raise RemoteProtocolError("an encrypted segment is no whole number of blocks")
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        vector = key.iv if key.iv is not None else (number & (1 << 128) - 1).to_bytes(16, "big")
        decryptor = Cipher(algorithms.AES(secret), modes.CBC(vector)).decryptor()
        plain = bytearray()
        for at in range(0, len(data), SLICE):
            plain += decryptor.update(data[at : at + SLICE])
            await trio.lowlevel.checkpoint()
        padding = plain[-1]
        if not 1 <= padding <= 16 or plain[-padding:] != bytes((padding,)) * padding:
            raise RemoteProtocolError("a segment can't be decrypted: the key is wrong")
        del plain[-padding:]
        return bytes(plain)

    async def _key(self, url: str, within: float) -> bytes:
        known = self._keys.get(url)
        if known is not None:
            return known
        parts = bytearray()

        async def take(chunk: bytes) -> None:
            parts.extend(chunk)

        await self._get(url, "the key", 16, within, take)
        if len(parts) != 16:
            raise RemoteProtocolError(f"the key has {len(parts)} bytes, not 16")
        if len(self._keys) >= _KEYS:
            self._keys.pop(next(iter(self._keys)))
        self._keys[url] = secret = bytes(parts)
        return secret

    async def _get(
        self, url: str, what: str, most: int, within: float, take: Take, place: ByteRange | None = None
    ) -> str:
        """Give ``take`` the body in pieces, ``most`` bytes at most; the URL after redirects."""
        with trio.move_on_after(within):
            for _ in range(MAX_REDIRECTS + 1):
                location = await self._ask(url, what, most, take, place)
                if location is None:
                    return url
                url = self.joined(url, location)
            raise Unavailable(f"{what} is redirected more than {MAX_REDIRECTS} times")
        raise Unavailable(f"{what} does not come in {within:g} s")

    async def _ask(self, url: str, what: str, most: int, take: Take, place: ByteRange | None) -> str | None:
        """Where it is redirected to; None when the body has been given."""
        import httpx

        shown = self._egress.check_url(url, SCHEMES).shown
        headers = {"accept-encoding": "identity", "user-agent": "Kiln"}
        if place is not None:
            headers["range"] = f"bytes={place.offset}-{place.offset + place.size - 1}"
        try:
            async with self._client.stream("GET", urldefrag(url).url, headers=headers) as response:
                if response.status_code in _REDIRECTS and "location" in response.headers:
                    return response.headers["location"]
                self._check(response, what, shown)
                skip = place.offset if place is not None and response.status_code == 200 else 0
                await self._read(response, what, most if place is None else place.size, skip, take, place is not None)
                return None
        except httpx.TimeoutException as error:
            raise Unavailable(f"{shown} does not answer in {self._timeout:g} s") from error
        except httpx.InvalidURL as error:
            raise BadRequest(f"{what} has a URL that is none") from error
        except httpx.RemoteProtocolError as error:
            raise RemoteProtocolError(f"{shown} does not speak HTTP: {error}") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{shown}: {error or type(error).__name__}") from error

    @staticmethod
    def _check(response: httpx.Response, what: str, shown: str) -> None:
        code = response.status_code
        if code not in (200, 206):
            raise Unavailable(f"{shown} answers {code} to a request for {what}")
        coding = response.headers.get("content-encoding", "identity").lower()
        if coding != "identity":
            raise RemoteProtocolError(f"{shown} sends {what} compressed ({coding[:20]}), which nobody asked for")

    async def _read(
        self, response: httpx.Response, what: str, most: int, skip: int, take: Take, cut: bool
    ) -> None:
        """``skip`` bytes are left out, for a server that sends all where a part was asked for; ``cut``: what is
        over ``most`` is not wanted, else it is too much."""
        if skip > MOST_SEGMENT:
            raise Unavailable("the server sends whole files where a part of them was asked for")
        size = 0
        fault: KilnError | None = None
        # Cancelled, what httpx reads from unwinds by itself; left alone it would lie about half read.
        with trio.CancelScope() as leaving:
            async for chunk in response.aiter_raw():
                self._progress()
                if leaving.cancel_called:
                    continue
                if skip:
                    chunk, skip = chunk[skip:], max(0, skip - len(chunk))
                if cut:
                    chunk = chunk[: most - size]
                size += len(chunk)
                try:
                    if size > most:
                        raise RemoteProtocolError(f"{what} is longer than {most} bytes")
                    if chunk:
                        await take(chunk)
                except KilnError as error:
                    fault = error
                if fault is not None or (cut and size == most):
                    leaving.cancel()
        if fault is not None:
            raise fault
        if cut and size < most:
            raise RemoteProtocolError(f"{what} is shorter than the playlist says")
