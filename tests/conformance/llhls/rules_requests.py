"""Rules about what the server answers: blocking reload, delta updates, hints, refusals, caching."""

from __future__ import annotations

import math
from urllib.parse import urljoin

import httpx
import trio

from tests.conformance.llhls.observe import Observation, Player, Seen, with_query
from tests.conformance.llhls.playlist import MediaPlaylist, parse_media
from tests.conformance.llhls.stage import EPSILON, Faults, Stage, every_playlist


async def rule_07_blocking_reload(seen: Observation, stage: Stage) -> Faults:
    """A reload for a part waits until exactly that part is there, one for a segment until it is whole."""
    faults: Faults = []
    for rendition in seen.renditions:
        for _ in range(3):
            msn, part = (await stage.player.playlist(rendition.url)).next
            answered: list[Seen] = []
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(_reload, stage.player, rendition.url, msn, part, answered)
            faults += [f"early: no part {msn}.{part}" for one in answered if not one.playlist.has(msn, part)]
            if abs(answered[0].at - answered[1].at) > stage.late:
                faults.append(f"two reloads for {msn}.{part} came {abs(answered[0].at - answered[1].at):.3f} s apart")
        msn = (await stage.player.playlist(rendition.url)).next[0]
        whole = await stage.player.playlist(rendition.url, f"_HLS_msn={msn}")
        if not any(one.msn >= msn for one in whole.complete):
            faults.append(f"early: segment {msn} is not whole")
    return faults


async def _reload(player: Player, url: str, msn: int, part: int, into: list[Seen]) -> None:
    playlist = await player.playlist(url, f"_HLS_msn={msn}&_HLS_part={part}")
    into.append(Seen(trio.current_time(), playlist))


async def rule_08_part_behind_the_last(seen: Observation, stage: Stage) -> Faults:
    """A part that the segment will not have is taken as the first of the next segment."""
    faults = []
    for rendition in seen.renditions:
        playlist = await stage.player.playlist(rendition.url)
        while playlist.segments[-1].uri or not playlist.segments[-1].parts:
            msn, part = playlist.next
            playlist = await stage.player.playlist(rendition.url, f"_HLS_msn={msn}&_HLS_part={part}")
        msn, last = playlist.last
        behind = last + _advance_limit(playlist)
        reply = await stage.player.playlist(rendition.url, f"_HLS_msn={msn}&_HLS_part={behind}")
        if not (reply.last >= (msn + 1, 0) or reply.has(msn, behind)):
            faults.append(f"{msn}.{behind} answered with {reply.last}")
    return faults


def _advance_limit(playlist: MediaPlaylist) -> int:
    return math.ceil(3 / playlist.part_target) if playlist.part_target < 1 else 3


async def rule_09_part_without_segment(seen: Observation, stage: Stage) -> Faults:
    """_HLS_part without _HLS_msn is refused with 400."""
    answers = [await stage.player.get(with_query(one.url, "_HLS_part=0")) for one in seen.renditions]
    return [f"{answer.status} for {answer.url}" for answer in answers if answer.status != 400]


async def rule_10_too_far_ahead(seen: Observation, stage: Stage) -> Faults:
    """What is more than two segments, or more parts than the advance limit, ahead is refused at once with 400."""
    faults = []
    for rendition in seen.renditions:
        playlist = await stage.player.playlist(rendition.url)
        msn, part = playlist.last
        far = [f"_HLS_msn={msn + 5}", f"_HLS_msn={msn + 5}&_HLS_part=0", "_HLS_msn=999999999999"]
        far.append(f"_HLS_msn={msn}&_HLS_part={part + 3 * _advance_limit(playlist) + 20}")
        for query in far:
            answer = await stage.player.get(with_query(rendition.url, query))
            if answer.status != 400:
                faults.append(f"{answer.status} for {answer.url}")
            if answer.took > 0.02 + stage.late:
                faults.append(f"{answer.url} took {answer.took:.3f} s")
    return faults


async def rule_11_blocked_too_long(seen: Observation, stage: Stage) -> Faults:
    """A reload that has waited three target durations is given up with 503. Needs a stage that can freeze."""
    if stage.freeze is None or stage.thaw is None:
        return []
    await stage.freeze()
    faults = []
    rendition = seen.renditions[0]
    # What was under way when the source stopped may still come.
    await trio.sleep(2 * rendition.latest.part_target)
    msn, part = (await stage.player.playlist(rendition.url)).next
    answer = await stage.player.get(with_query(rendition.url, f"_HLS_msn={msn}&_HLS_part={part}"))
    limit = 3 * seen.target_duration
    if answer.status != 503 or not limit - stage.late <= answer.took <= limit + 1.5:
        faults.append(f"{answer.status} after {answer.took:.2f} s, expected 503 after {limit}")
    await stage.thaw()
    return faults


async def rule_12_old_and_ended(seen: Observation, stage: Stage) -> Faults:
    """For an old segment the whole playlist comes at once; behind an ENDLIST directives mean nothing."""
    faults = []
    for rendition in seen.renditions:
        for query in ("_HLS_msn=0", "_HLS_msn=0&_HLS_part=0", f"_HLS_msn={rendition.seen[0].playlist.media_sequence}"):
            answer = await stage.player.get(with_query(rendition.url, query))
            if answer.status != 200 or answer.took > 0.02 + stage.late:
                faults.append(f"{answer.status} after {answer.took:.3f} s for {answer.url}")
            elif parse_media(rendition.url, answer.text).skipped:
                faults.append(f"not the whole playlist for {answer.url}")
        if rendition.latest.ended:
            answer = await stage.player.get(with_query(rendition.url, "_HLS_msn=99999999&_HLS_part=9&_HLS_skip=YES"))
            if answer.status != 200 or parse_media(rendition.url, answer.text).skipped:
                faults.append(f"directives count behind ENDLIST: {answer.status}")
    return faults


async def rule_13_delta_updates(seen: Observation, stage: Stage) -> Faults:
    """A delta update with what it skips is the full playlist; nothing is skipped that must not be."""
    faults = []
    for rendition in seen.renditions:
        for value in ("YES", "v2"):
            delta, full = await _delta_and_full(stage.player, rendition.url, value)
            until = float(full.server_control.get("CAN-SKIP-UNTIL", "0"))
            if delta.skipped and (not until or full.ended):
                faults.append("skipped where it may not")
            if delta.skipped and delta.version < 9:
                faults.append(f"EXT-X-SKIP in version {delta.version}")
            kept = full.segments[delta.skipped :]
            if delta.media_sequence != full.media_sequence or [_shape(one) for one in delta.segments] != [
                _shape(one) for one in kept
            ]:
                faults.append(f"{value}: skipped and kept are not the full playlist of {rendition.url}")
            after = sum(one.duration or sum(part.duration for part in one.parts) for one in kept)
            if delta.skipped and after < until - EPSILON:
                faults.append(f"skips what is only {after} s from the end")
            due = [one for index, one in enumerate(full.complete) if _behind(full, index) >= until > 0]
            if len(due) != delta.skipped:
                faults.append(f"{len(due)} segments could be skipped, {delta.skipped} were")
    return faults


async def _delta_and_full(player: Player, url: str, value: str) -> tuple[MediaPlaylist, MediaPlaylist]:
    """Both of the same moment."""
    while True:
        before = await player.get(url)
        delta = await player.get(with_query(url, f"_HLS_skip={value}"))
        after = await player.get(url)
        if before.body == after.body:
            return parse_media(url, delta.text), parse_media(url, before.text)


def _behind(playlist: MediaPlaylist, index: int) -> float:
    """Seconds of media behind segment ``index``."""
    return sum(one.duration or sum(part.duration for part in one.parts) for one in playlist.segments[index + 1 :])


def _shape(segment: object) -> tuple[object, ...]:
    """What must be equal in a delta; the init section is not told again."""
    values = dict(vars(segment))
    values.pop("map")
    values["discontinuity_sequence"] = 0
    return tuple(str(value) for value in values.values())


async def rule_14_preload_hint(seen: Observation, stage: Stage) -> Faults:
    """One hint at most; asked for early, the part comes when it is whole, then at once."""
    faults = [f"hints {playlist.hints}" for _, playlist in every_playlist(seen) if len(playlist.hints) > 1]
    for rendition in seen.renditions:
        kept = 0
        for _ in range(4):
            playlist = await stage.player.playlist(rendition.url)
            if not playlist.hint:
                continue
            fault = await _one_hint(playlist, stage)
            if fault is None:
                kept += 1
            elif fault:
                faults.append(fault)
        if not kept and rendition.latest.hint:
            faults.append(f"no hint of {rendition.url} was kept")
    return faults


async def _one_hint(playlist: MediaPlaylist, stage: Stage) -> str | None:
    """None when the hint was kept, "" when it was withdrawn, else the fault."""
    msn, part = playlist.next
    fault: str | None = None
    listed = -1.0

    async def watch() -> None:
        nonlocal listed
        query = f"_HLS_msn={msn}&_HLS_part={part}"
        reply = await stage.player.playlist(playlist.url, query)
        listed = trio.current_time()
        uris = {one.uri for segment in reply.segments for one in segment.parts}
        nonlocal fault
        if playlist.hint not in uris:
            fault = ""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        answer = await stage.player.get(playlist.hint)
    if answer.status == 404:
        return ""
    if answer.status != 200:
        return f"{answer.status} for the hinted {playlist.hint}"
    if fault is None and abs(answer.began - listed) > 0.02 + stage.late:
        return f"the hinted part came {answer.began - listed:.3f} s after it was listed"
    if answer.ended - answer.began > 0.02 + stage.late:
        return f"the hinted part took {answer.ended - answer.began:.3f} s once it had begun"
    again = await stage.player.get(playlist.hint)
    return fault if again.body == answer.body else "the hinted part has other bytes than the listed one"


async def rule_15_unknown_parts(seen: Observation, stage: Stage) -> Faults:
    """A part that is not, and will not be, is 404 at once."""
    faults = []
    for rendition in seen.renditions:
        playlist = await stage.player.playlist(rendition.url)
        known = next(part.uri for one in reversed(playlist.segments) for part in one.parts)
        name = known.rpartition("/")[2].split("_")
        for msn, part in ((playlist.last[0] + 50, 0), (playlist.last[0], 900), (playlist.last[0] + 1, 7)):
            url = urljoin(known, "_".join([*name[:2], str(msn), str(part), *name[4:]]))
            answer = await stage.player.get(url)
            if answer.status != 404 or answer.took > 0.02 + stage.late:
                faults.append(f"{answer.status} after {answer.took:.3f} s for {url}")
    return faults


async def rule_25_caching(seen: Observation, stage: Stage) -> Faults:
    """Answers to blocked reloads and parts may be cached, errors not for long; TLS comes with HTTP/2."""
    faults = []
    for rendition in seen.renditions:
        msn, part = (await stage.player.playlist(rendition.url)).next
        blocked = await stage.player.get(with_query(rendition.url, f"_HLS_msn={msn}&_HLS_part={part}"))
        if _max_age(blocked.headers) < 1:
            faults.append(f"a blocked reload has cache-control {blocked.headers.get('cache-control')}")
        faults += [
            f"{fetched.uri} has cache-control {fetched.headers.get('cache-control')}"
            for fetched in list(rendition.parts.values())[-2:]
            if _max_age(fetched.headers) < 1
        ]
        missing = await stage.player.get(urljoin(rendition.url, "seg_0_999999_video_nothing_llhls.m4s"))
        if missing.status != 404 or not 0 <= _max_age(missing.headers) <= 10:
            faults.append(f"{missing.status} with cache-control {missing.headers.get('cache-control')}")
        if rendition.url.startswith("https:"):
            response = await stage.player.http.get(rendition.url)
            if response.http_version != "HTTP/2":
                faults.append(f"{response.http_version} with TLS")
    return faults


def _max_age(headers: httpx.Headers) -> int:
    """-1 when nothing is said."""
    value = headers.get("cache-control", "")
    if "no-store" in value or "no-cache" in value:
        return 0
    ages = [item.partition("=")[2] for item in value.replace(" ", "").split(",") if item.startswith("max-age=")]
    return int(ages[0]) if ages else -1
