"""``kiln check`` tells all that can be known of a file before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.cli.check import findings
from appliance.settings.xml import DEFAULT_XML, Fault, load_xml
from tests.settings.writer import application, profile, server

RECORDED = Path(__file__).parents[1] / "api" / "recorded" / "Server.xml"


def found(tmp_path: Path, app: str, more: str = "") -> tuple[list[str], list[str]]:
    """Faults and warnings of an application that stands in line 3."""
    file = tmp_path / "Server.xml"
    file.write_text(server(apps=f"\n{app}", more=more))
    faults, warnings = findings(load_xml(file, environment={}))
    assert all(fault.line == 3 or more for fault in (*faults, *warnings))
    return told(faults), told(warnings)


def told(found_all: list[Fault]) -> list[str]:
    return [f"{fault.path.rpartition('.')[2]}: {fault.message}" for fault in found_all]


def encoded(kind: str, body: str) -> str:
    bitrate = "" if kind == "Image" else "<Bitrate>1M</Bitrate>"
    return profile(f"<Encodes><{kind}><Name>a</Name>{bitrate}{body}</{kind}></Encodes>")


def test_what_is_shipped_has_nothing_to_tell() -> None:
    assert findings(load_xml(DEFAULT_XML)) == ([], [])
    assert findings(load_xml(RECORDED, environment={}))[0] == []


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("pattern://?size=13x13", "parameter size=13x13: must be WIDTHxHEIGHT"),
        ("pattern://?colour=red", "unknown parameter colour"),
        ("v4l2://video0", "needs a device below /dev"),
        ("http://example.net", "not a capture URL"),
        ("", "not a capture URL"),
    ],
)
def test_capture_urls(tmp_path: Path, url: str, fault: str) -> None:
    capture = f"<Capture><Streams><Stream><Name>a</Name><Url>{url}</Url></Stream></Streams></Capture>"
    (fault_told,), warnings = found(tmp_path, application(f"<Providers>{capture}</Providers>"))
    assert fault_told.startswith("Url: ")
    assert fault in fault_told
    assert warnings == []


@pytest.mark.parametrize(
    ("kind", "body", "fault"),
    [
        ("Video", "<Codec>mpeg2</Codec>", "Codec: unknown codec: 'mpeg2'"),
        ("Video", "<Codec>aac</Codec>", "Codec: aac can't stand here"),
        ("Video", "<Codec>h264_abc</Codec>", "Codec: codec 'h264_abc': unknown encoder module 'abc'"),
        ("Audio", "<Codec>mp3</Codec>", "Codec: unknown codec: 'mp3'"),
        ("Audio", "<Codec>h264</Codec>", "Codec: h264 can't stand here"),
        ("Image", "<Codec>gif</Codec>", "Codec: unknown codec: 'gif'"),
        ("Image", "<Codec>vp8</Codec>", "Codec: vp8 can't stand here"),
        ("Image", "", "Codec: unknown codec: ''"),
        (
            "Video",
            "<Codec>h264</Codec><Modules>x264,abc:1</Modules>",
            "Modules: unknown encoder module 'abc:1'",
        ),
        (
            "Video",
            "<Codec>h264</Codec><BFrames>2</BFrames><Profile>baseline</Profile>",
            "BFrames: BFrames is 2, and the profile baseline has none",
        ),
    ],
)
def test_encodes_that_can_not_be_made(tmp_path: Path, kind: str, body: str, fault: str) -> None:
    assert found(tmp_path, encoded(kind, body)) == ([fault], [])


@pytest.mark.parametrize(
    ("kind", "body", "warning"),
    [
        ("Video", "<Codec>h264</Codec><Width>853</Width>", "Width: Width is 853: 856, a multiple of 4, is used"),
        ("Image", "<Codec>png</Codec><Height>2</Height>", "Height: Height is 2: 4, a multiple of 4, is used"),
        (
            "Audio",
            "<Codec>aac</Codec><Samplerate>40000</Samplerate>",
            "Samplerate: AAC has no 40000 Hz: 44100 Hz is used",
        ),
        (
            "Audio",
            "<Codec>aac</Codec><Samplerate>192000</Samplerate>",
            "Samplerate: AAC has no 192000 Hz: 96000 Hz is used",
        ),
        (
            "Audio",
            "<Codec>opus</Codec><Samplerate>44100</Samplerate>",
            "Samplerate: OPUS has no 44100 Hz: 48000 Hz is used",
        ),
        ("Audio", "<Codec>aac</Codec><Channel>6</Channel>", "Channel: Channel is 6: stereo is made"),
        ("Video", "<Codec>h264_nv</Codec>", "Modules: nv needs HWAccels/Encoder/Enable: software encodes"),
        (
            "Video",
            "<Codec>h264</Codec><Modules>x265,x264</Modules>",
            "Modules: no encoder for H264 among the modules: x265: it is left out",
        ),
    ],
)
def test_encodes_that_come_out_otherwise(tmp_path: Path, kind: str, body: str, warning: str) -> None:
    assert found(tmp_path, encoded(kind, body)) == ([], [warning])


def test_encodes_that_are_made_as_they_read(tmp_path: Path) -> None:
    video = "<Video><Codec>h264</Codec><Bitrate>1M</Bitrate><Modules>nv:0,x264</Modules><Width>640</Width></Video>"
    passed = "<Video><Bypass>true</Bypass><Width>641</Width></Video>"
    audio = "<Audio><Codec>opus</Codec><Bitrate>64K</Bitrate><Modules>libopus</Modules></Audio>"
    on = "<HWAccels><Encoder><Enable>true</Enable></Encoder></HWAccels><OutputProfile>"
    app = profile(f"<Encodes>{video}{passed}{audio}</Encodes>").replace("<OutputProfile>", on)
    assert found(tmp_path, app) == ([], [])


def test_names_that_are_there_twice(tmp_path: Path) -> None:
    twice = "<Video><Name>a</Name><Bypass>true</Bypass></Video>" * 2
    other = "<Audio><Name>a</Name><Bypass>true</Bypass></Audio><Audio><Bypass>true</Bypass></Audio>"
    lists = "".join(f"<Playlist><Name>n</Name><FileName>{name}</FileName></Playlist>" for name in ("x", "y"))
    app = profile(f"<Encodes>{twice}{other}</Encodes>{lists}")
    assert found(tmp_path, app) == (
        ["Name: Two encodes have the name [a]: playlists can't tell them apart"],
        ["Name: Two playlists are shown by the same name: [n]"],
    )
    one = "<OutputProfile><Name>{}</Name><OutputStreamName>s</OutputStreamName></OutputProfile>"
    app = application(f"<OutputProfiles>{one.format('p')}{one.format('q')}</OutputProfiles>")
    assert found(tmp_path, app) == (["OutputStreamName: Two output profiles make a stream of the same name: [s]"], [])


@pytest.mark.parametrize("name", ["chunklist", "chunklist_x", "master.m3u8"])
def test_playlists_that_nobody_reaches(tmp_path: Path, name: str) -> None:
    (fault,), warnings = found(tmp_path, profile(f"<Playlist><FileName>{name}</FileName></Playlist>"))
    assert fault.startswith(f"FileName: The playlist [{name}] can't be reached")
    assert warnings == []


def test_few_segments(tmp_path: Path) -> None:
    app = application("<Publishers><LLHLS><SegmentCount>2</SegmentCount></LLHLS></Publishers>")
    assert found(tmp_path, app) == ([], ["SegmentCount: SegmentCount is 2: 3 is used"])


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("")
    tls = "<TLS><CertPath>a.crt</CertPath><KeyPath>a.key</KeyPath></TLS>"
    both = found(tmp_path, application(), f"<Managers><Host>{tls}</Host></Managers>")
    assert both == ([], [f"CertPath: The file {tmp_path}/a.crt does not exist: a self-signed certificate is shown"])


def test_the_order_is_that_of_files_and_lines(tmp_path: Path) -> None:
    (tmp_path / "App.xml").write_text("\n\n" + encoded("Video", "<Codec>gif</Codec>\n<Bogus/>"))
    file = tmp_path / "Server.xml"
    bad = encoded("Image", "<Codec>gif</Codec>").replace("<Name>app<", "<Name>other<")
    file.write_text(server(apps=f'\n<Application include="App.xml"/>\n{bad}', bind="<Bogus/>"))
    faults, _ = findings(load_xml(file))
    lines = [(Path(fault.file).name, fault.line) for fault in faults]
    assert lines[:2] == [("Server.xml", 1), ("Server.xml", 4)]
    assert lines[2:4] == [("App.xml", 3), ("App.xml", 4)]
