from __future__ import annotations

import pytest

from appliance.media.contracts import Rendition
from appliance.media.playlists import default_playlist, resolve_playlists, tracks_of_variant
from appliance.media.track import Codec, MediaType, Track
from appliance.settings import models


def video(number: int, variant: str, height: int, **changes: object) -> Track:
    values: dict[str, object] = {
        "id": number, "media": MediaType.VIDEO, "codec": Codec.H264, "timescale": 90000, "variant": variant,
        "width": height * 16 // 9, "height": height, "frame_rate": 30.0, "bitrate": height * 4000, "bypass": False,
    }  # fmt: skip
    return Track(**values | changes)  # type: ignore[arg-type]


def audio(number: int, variant: str, **changes: object) -> Track:
    values: dict[str, object] = {
        "id": number, "media": MediaType.AUDIO, "codec": Codec.AAC, "timescale": 48000, "variant": variant,
        "sample_rate": 48000, "channels": 2, "bitrate": 128000,
    }  # fmt: skip
    return Track(**values | changes)  # type: ignore[arg-type]


TRACKS = [
    video(0, "hd", 1080),
    video(1, "sd", 360, frame_rate=29.97),
    video(2, "pass", 2160, bypass=True),
    video(3, "image", 100, codec=Codec.JPEG),
    audio(4, "aac", language="de"),
    audio(5, "aac", language="en"),
    audio(6, "opus", codec=Codec.OPUS, bitrate=64000, bypass=False),
]


def resolve(*templates: models.RenditionTemplate, renditions: tuple[models.Rendition, ...] = ()) -> list[Rendition]:
    playlist = models.Playlist(name="p", file_name="f", renditions=renditions, rendition_templates=templates)
    (resolved,) = resolve_playlists([playlist], TRACKS)
    return resolved.renditions


def template(
    name: str, video_template: models.VideoTemplate | None = None, audio_template: models.AudioTemplate | None = None
) -> models.RenditionTemplate:
    return models.RenditionTemplate(name=name, video_template=video_template, audio_template=audio_template)


def test_every_video_with_every_kind_of_audio() -> None:
    found = resolve(template("${Height}p", models.VideoTemplate(), models.AudioTemplate()))
    assert [(one.name, one.video, one.audio, one.audio_index) for one in found] == [
        ("1080p", "hd", "aac", 0),
        ("1080p_1", "hd", "opus", 0),
        ("360p", "sd", "aac", 0),
        ("360p_1", "sd", "opus", 0),
        ("2160p", "pass", "aac", 0),
        ("2160p_1", "pass", "opus", 0),
    ]


def test_explicit_renditions_come_first_and_keep_their_names() -> None:
    given = models.Rendition(name="360p", video="sd", audio="aac", audio_index_hint=1)
    found = resolve(template("${Height}p", models.VideoTemplate(max_height=400)), renditions=(given,))
    assert [(one.name, one.audio_index) for one in found] == [("360p", 1), ("360p_1", 0)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"variant_name": "sd"}, ["sd"]),
        ({"encoding_type": "bypassed"}, ["pass"]),
        ({"encoding_type": "Encoded"}, ["hd", "sd"]),
        ({"max_width": 1920, "min_width": 1000}, ["hd"]),
        ({"min_height": 1080}, ["hd", "pass"]),
        ({"max_framerate": 29}, []),
        ({"max_framerate": 30}, ["hd", "sd", "pass"]),
        ({"min_framerate": 30}, ["hd", "pass"]),
        ({"max_bitrate": 2_000_000}, ["sd"]),
        ({"min_bitrate": 8_000_000}, ["pass"]),
        ({"max_height": 0}, ["hd", "sd", "pass"]),
    ],
)
def test_video_filters(filters: dict[str, object], expected: list[str]) -> None:
    found = resolve(template("x", models.VideoTemplate(**filters)))  # type: ignore[arg-type]
    assert [one.video for one in found] == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["aac", "opus"]),
        ({"variant_name": "opus"}, ["opus"]),
        ({"max_bitrate": 100_000}, ["opus"]),
        ({"min_samplerate": 48000, "max_samplerate": 48000}, ["aac", "opus"]),
        ({"min_channel": 3}, []),
        ({"encoding_type": "bypassed"}, ["aac"]),
    ],
)
def test_audio_filters(filters: dict[str, object], expected: list[str]) -> None:
    found = resolve(template("x", audio_template=models.AudioTemplate(**filters)))  # type: ignore[arg-type]
    assert [(one.video, one.audio) for one in found] == [("", name) for name in expected]


def test_one_side_alone_where_the_other_matches_nothing() -> None:
    found = resolve(template("x", models.VideoTemplate(variant_name="nope"), models.AudioTemplate()))
    assert [(one.video, one.audio) for one in found] == [("", "aac"), ("", "opus")]


def test_nothing_at_all_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve(template("x", models.VideoTemplate(variant_name="nope"))) == []
    assert "template=x" in caplog.text


def test_names_from_what_a_track_is() -> None:
    name = "${Width}x${Height}@${Framerate} ${Bitrate} ${Samplerate}/${Channel} ${Other}"
    found = resolve(template(name, models.VideoTemplate(variant_name="sd"), models.AudioTemplate(variant_name="opus")))
    assert found[0].name == "640x360@29.97 1440000 48000/2 ${Other}"
    found = resolve(template("${Bitrate}", audio_template=models.AudioTemplate(variant_name="opus")))
    assert found[0].name == "64000"


def test_options_are_carried_over() -> None:
    options = models.PlaylistOptions(
        webrtc_auto_abr=False, hls_chunklist_path_depth=2, enable_ts_packaging=True, enable_subtitles=False
    )
    (found,) = resolve_playlists([models.Playlist(file_name="f", options=options)], TRACKS)
    assert (found.name, found.file_name) == ("f", "f")
    assert (found.webrtc_auto_abr, found.hls_chunklist_path_depth) == (False, 2)
    assert (found.enable_ts_packaging, found.enable_subtitles) == (True, False)


def test_the_automatic_playlist() -> None:
    made = default_playlist("llhls_default", "llhls", TRACKS, {Codec.H264, Codec.OPUS})
    assert made.renditions == [Rendition("default", "hd", "opus")]
    assert default_playlist("x", "x", TRACKS, {Codec.VP8}).renditions == []


def test_groups_of_a_variant() -> None:
    assert [track.id for track in tracks_of_variant(TRACKS, "aac", video=False)] == [4, 5]
    assert tracks_of_variant(TRACKS, "aac", video=True) == []
    assert tracks_of_variant(TRACKS, "", video=False) == []
