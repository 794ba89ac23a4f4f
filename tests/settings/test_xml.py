"""Server.xml: what it may hold, what it includes, and every fault at once with its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.errors import ConfigError
from appliance.settings import models
from appliance.settings import xml as xml_module
from appliance.settings.check import check_file
from appliance.settings.xml import LoadedServer, load_xml
from tests.settings.writer import application, profile, server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "Server.xml"


def load(file: Path, text: str | bytes, **environment: str) -> LoadedServer:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_xml(file, environment=environment)


def messages(loaded: LoadedServer) -> list[tuple[str, int]]:
    return [(fault.message, fault.line) for fault in loaded.faults]


@pytest.mark.parametrize("version", ["8", "9", "10"])
def test_versions(file: Path, version: str) -> None:
    text = server().replace('version="10"', f'version="{version}"')
    assert load(file, text).model.version == int(version)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ('<Server version="7">', "Unsupported version: [7]"),
        ('<Server version="11">', "Unsupported version: [11]"),
        ("<Server>", "The attribute version is missing"),
    ],
)
def test_wrong_versions(file: Path, start: str, message: str) -> None:
    assert messages(load(file, server().replace('<Server version="10">', start))) == [(message, 1)]


def test_every_fault_is_told_at_once_with_its_line(file: Path) -> None:
    text = """<?xml version="1.0"?>
<Server version="8">
  <Type>origin</Type>
  <IP>*</IP>
  <Bind>
    <Foo/>
    <Providers>
      <RTMP><Port>abc</Port></RTMP>
    </Providers>
  </Bind>
  <VirtualHosts>
    <VirtualHost>
      <Name>default</Name>
      <Applications>
        <Application>
          <Name>app</Name>
          <Type>vod</Type>
          <Publishers>
            <LLHSL/>
          </Publishers>
        </Application>
        <Application>
          <Type>live</Type>
          <OutputProfiles>
            <OutputProfile>
              <Name>p</Name>
              <OutputStreamName>s</OutputStreamName>
              <Encodes>
                <Video>
                  <Codec>h264</Codec>
                  <BFrames>20</BFrames>
                </Video>
              </Encodes>
            </OutputProfile>
          </OutputProfiles>
        </Application>
      </Applications>
    </VirtualHost>
  </VirtualHosts>
  <Bar>x</Bar>
</Server>
"""
    app = "Server.VirtualHosts.VirtualHost.Applications.Application"
    loaded = load(file, text)
    assert messages(loaded) == [
        ("Unknown item found: Server.Bind.Foo", 6),
        ("Invalid port: [abc]", 8),
        ("Unknown type: vod", 17),
        (f"Unknown item found: {app}.Publishers.LLHSL", 19),
        (f"{app}.name is not optional".replace("name", "Name"), 22),
        ("Bitrate must be specified when bypass is false", 29),
        ("BFrames must be between 0 and 16", 31),
        ("Unknown item found: Server.Bar", 40),
    ]
    assert str(loaded.faults[0]) == f"Unknown item found: Server.Bind.Foo ({file}, line 6)"
    assert str(loaded.faults[1]).startswith(f"Server.Bind.Providers.RTMP.Port: Invalid port: [abc] ({file}, line 8)")
    assert loaded.faults[3].hint == "Is LLHLS meant?"
    assert check_file(file) == list(loaded.faults)
    with pytest.raises(ConfigError, match=r"Server\.Bind\.Foo") as caught:
        _ = loaded.model
    assert "Unknown item found: Server.Bar" in str(caught.value)


def test_what_a_server_must_have(file: Path) -> None:
    assert messages(load(file, '<Server version="8"></Server>')) == [
        ("Server.Type is not optional", 1),
        ("Server.IP is not optional", 1),
        ("Server.Bind is not optional", 1),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<Name>a</Name><Name>b</Name>", "Server.Name is given more than once"),
        ("<Name>a<b/></Name>", "Unknown item found: Server.Name.b"),
        ("<Modules>text</Modules>", "Unexpected text in Server.Modules: [text]"),
        (
            "<Managers><Host><Names>text</Names></Host></Managers>",
            "Unexpected text in Server.Managers.Host.Names: [text]",
        ),
        (
            "<Managers><Host><Names><Nam/></Names></Host></Managers>",
            "Unknown item found: Server.Managers.Host.Names.Nam",
        ),
        ('<Name inclued="x">a</Name>', "Unknown attribute found: Server.Name inclued="),
        ('<Modules colour="x"/>', "Unknown attribute found: Server.Modules colour="),
        ("<Type>origin</Type>", "Server.Type is given more than once"),
        ("<IP>nowhere</IP>", "Invalid IP: [nowhere]"),
        ("<name>x</name>", "Unknown item found: Server.name"),
        ("<x:Name xmlns:x='u'>x</x:Name>", "Unknown item found: Server.{u}Name"),
    ],
)
def test_wrong_elements(file: Path, body: str, message: str) -> None:
    loaded = load(file, server(more="\n" + body))
    assert messages(loaded) == [(message, 2)]


def test_values_are_read_leniently_and_doubts_are_warnings(file: Path) -> None:
    publishers = (
        "<Publishers><LLHLS><SegmentCount>12abc</SegmentCount><SegmentDuration> 2.5s </SegmentDuration>"
        "<OriginMode>TRUE</OriginMode><EnablePreloadHint>0</EnablePreloadHint><CreateDefaultPlaylist>2</CreateDefaultPlaylist>"
        "<PartHoldBack>abc</PartHoldBack></LLHLS></Publishers>"
    )
    loaded = load(file, server(apps=application(publishers)))
    llhls = loaded.model.virtual_hosts[0].applications[0].publishers.llhls
    assert llhls is not None
    assert (llhls.segment_count, llhls.segment_duration, llhls.part_hold_back) == (12, 2.5, 0.0)
    assert (llhls.origin_mode, llhls.enable_preload_hint, llhls.create_default_playlist) == (True, False, True)
    assert [warning.message for warning in loaded.warnings] == [
        "[12abc] is not an integer: 12 is taken",
        "[2.5s] is not a number: 2.5 is taken",
        "[2] is not true or false: true is taken",
        "[abc] is not a number: 0.0 is taken",
    ]
    assert loaded.raw["virtualHosts"][0]["applications"][0]["publishers"]["llhls"]["segmentCount"] == "12abc"


def test_bitrates(file: Path) -> None:
    encodes = "".join(
        f"<Video><Codec>h264</Codec><Bitrate>{text}</Bitrate></Video>"
        for text in ("2M", "1.5m", "128K", "2500000", " 1 ")
    )
    loaded = load(file, server(apps=profile(f"<Encodes>{encodes}</Encodes>")))
    videos = loaded.model.virtual_hosts[0].applications[0].profiles[0].encodes.videos
    assert [video.bitrate for video in videos] == [2097152, 1572864, 131072, 2500000, 1]
    raw = loaded.raw["virtualHosts"][0]["applications"][0]["outputProfiles"]["outputProfile"][0]["encodes"]["videos"]
    assert [video["bitrate"] for video in raw] == ["2M", "1.5m", "128K", "2500000", "1"]


def test_flags_are_true_by_being_there(file: Path) -> None:
    alert = (
        "<Alert><Url>http://x</Url><Rules><Ingress><StreamStatus/><MinBitrate>2M</MinBitrate></Ingress>"
        "<InternalQueueCongestion/></Rules></Alert>"
    )
    rules = load(file, server(more=alert)).model.alert
    assert rules is not None
    assert (rules.rules.ingress.stream_status, rules.rules.ingress.has_bframes) == (True, False)
    assert rules.rules.ingress.min_bitrate == 2097152
    assert rules.rules.internal_queue_congestion is True


def test_absent_and_empty_parts(file: Path) -> None:
    loaded = load(file, server(bind="<Managers><API/></Managers><Providers><RTMP/></Providers>", apps=application()))
    bind = loaded.model.bind
    assert bind.managers.api == models.BindApi()
    assert models.BindApi().port == 8081
    assert bind.providers.rtmp == models.BindRtmp()
    assert (bind.providers.srt, bind.publishers.llhls) == (None, None)
    app = loaded.model.virtual_hosts[0].applications[0]
    assert app.providers.rtmp is None
    assert load(file, server()).model.bind.managers.api is None


def test_comments_and_instructions_mean_nothing(file: Path) -> None:
    text = server(more="<Name>a<!-- b -->c</Name><!-- <Nonsense/> --><?pi x?>")
    assert load(file, text).model.name == "ac"


class TestMacros:
    def test_the_environment(self, file: Path) -> None:
        text = server(more="<Name>${env:BOX:no}-${env:OTHER:a b}-${env:EMPTY:}-${Height}</Name>")
        loaded = load(file, text, BOX="kiln")
        assert loaded.model.name == "kiln-a b--${Height}"
        assert loaded.raw["name"] == "${env:BOX:no}-${env:OTHER:a b}-${env:EMPTY:}-${Height}"

    def test_a_variable_that_is_not_set_is_a_fault(self, file: Path) -> None:
        loaded = load(file, server(more="\n<Name>${env:NOWHERE}</Name>"))
        assert messages(loaded) == [("The environment variable NOWHERE is not set", 2)]

    def test_numbers_and_ports_come_from_it_too(self, file: Path) -> None:
        bind = "<Managers><API><Port>${env:API_PORT:8081}</Port></API></Managers>"
        api = load(file, server(bind=bind), API_PORT="9000").model.bind.managers.api
        assert api is not None
        assert api.port == 9000

    def test_folders(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "below").mkdir()
        host = "<VirtualHost><Name>h</Name><Distribution>${ome:Home}|${ome:CurrentPath}</Distribution></VirtualHost>"
        (tmp_path / "below" / "host.xml").write_text(host)
        loaded = load(file, server(hosts='<VirtualHost include="below/host.xml"/>'))
        assert loaded.model.virtual_hosts[0].distribution == f"{tmp_path}|{tmp_path / 'below'}"

    def test_values_are_not_read_twice(self, file: Path) -> None:
        assert load(file, server(more="<Name>${env:A:}</Name>"), A="${env:B:x}<b/>").model.name == "${env:B:x}<b/>"


class TestIncludes:
    def test_many_files_on_a_list(self, file: Path, tmp_path: Path) -> None:
        for name in ("b", "a", "c"):
            (tmp_path / f"VHost-{name}.xml").write_text(f"<VirtualHost><Name>{name}</Name></VirtualHost>")
        hosts = '<VirtualHost><Name>own</Name></VirtualHost><VirtualHost include="VHost*.xml"/>'
        loaded = load(file, server(hosts=hosts))
        assert [vhost.name for vhost in loaded.model.virtual_hosts] == ["own", "a", "b", "c"]
        assert [vhost["name"] for vhost in loaded.raw["virtualHosts"]] == ["own", "a", "b", "c"]

    def test_no_file_for_a_pattern_is_no_fault_and_none_for_a_name_is_one(self, file: Path) -> None:
        assert load(file, server(hosts='<VirtualHost include="VHost*.xml"/>')).model.virtual_hosts == ()
        loaded = load(file, server(hosts='\n<VirtualHost include="VHost.xml"/>'))
        assert messages(loaded)[0][0].startswith(f"Can't read {file.parent / 'VHost.xml'}: No such file")

    def test_one_file_on_a_single_element(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "modules.xml").write_text("<Modules><MediaRoot>/m</MediaRoot></Modules>")
        assert load(file, server(more='<Modules include="modules.xml"/>')).model.modules.media_root == "/m"
        (tmp_path / "modules2.xml").write_text("<Modules/>")
        loaded = load(file, server(more='<Modules include="modules*.xml"/>'))
        assert messages(loaded) == [("Can't include [modules*.xml]: 2 files match", 1)]
        loaded = load(file, server(more='<Modules include="nothing*.xml"/>'))
        assert messages(loaded) == [("Can't include [nothing*.xml]: no such file", 1)]

    def test_faults_name_the_file_they_are_in(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "VHost.xml").write_text("<VirtualHost>\n<Name>a b</Name>\n<Foo/></VirtualHost>")
        loaded = load(file, server(hosts='<VirtualHost include="VHost.xml"/>', more="\n<Bar/>"))
        assert [(Path(fault.file).name, fault.line, fault.message) for fault in loaded.faults] == [
            ("Server.xml", 2, "Unknown item found: Server.Bar"),
            ("VHost.xml", 2, "Invalid virtual host name: [a b]"),
            ("VHost.xml", 3, "Unknown item found: Server.VirtualHosts.VirtualHost.Foo"),
        ]

    def test_a_file_of_another_kind(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "VHost.xml").write_text("<Application/>")
        loaded = load(file, server(hosts='<VirtualHost include="VHost.xml"/>'))
        assert messages(loaded) == [("The root element must be VirtualHost, not Application", 1)]

    def test_a_circle(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "a.xml").write_text('<VirtualHost include="b.xml"/>')
        (tmp_path / "b.xml").write_text('<VirtualHost include="a.xml"/>')
        loaded = load(file, server(hosts='<VirtualHost include="a.xml"/>'))
        assert messages(loaded) == [(f"Can't include {tmp_path / 'a.xml'}: it includes itself", 1)]

    def test_a_long_chain(self, file: Path, tmp_path: Path) -> None:
        for number in range(40):
            (tmp_path / f"{number}.xml").write_text(f'<VirtualHost include="{number + 1}.xml"/>')
        loaded = load(file, server(hosts='<VirtualHost include="0.xml"/>'))
        assert len(loaded.faults) == 1
        assert "deep" in loaded.faults[0].message

    def test_too_many_files(self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(xml_module, "MOST_FILES", 3)
        for number in range(5):
            (tmp_path / f"VHost{number}.xml").write_text(f"<VirtualHost><Name>n{number}</Name></VirtualHost>")
        loaded = load(file, server(hosts='<VirtualHost include="VHost*.xml"/>'))
        assert len(loaded.faults) == 3
        assert "over 3 files" in loaded.faults[0].message

    def test_an_include_with_content(self, file: Path) -> None:
        loaded = load(file, server(more='<Modules include="x.xml"><MediaRoot/></Modules>'))
        assert messages(loaded) == [("An element with include= must be empty", 1)]

    def test_what_can_not_be_read(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "folder.xml").mkdir()
        os.mkfifo(tmp_path / "pipe.xml")
        (tmp_path / "broken.xml").write_text("<VirtualHost>\n<Name>")
        names = ("folder", "pipe", "broken")
        loaded = load(file, server(hosts="".join(f'<VirtualHost include="{name}.xml"/>' for name in names)))
        texts = [fault.message for fault in loaded.faults]
        assert f"Can't read {tmp_path / 'folder.xml'}: it is not a file" in texts
        assert f"Can't read {tmp_path / 'pipe.xml'}: it is not a file" in texts
        assert any(text.startswith("Not well-formed: ") for text in texts)


def test_ignored_elements_are_not_there(file: Path) -> None:
    hosts = '<VirtualHost ignore="true"><Nonsense/></VirtualHost><VirtualHost><Name>b</Name></VirtualHost>'
    more = '<Name ignore="TRUE">a</Name><Name ignore="false">b</Name><Modules ignore="true" include="nowhere"/>'
    loaded = load(file, server(hosts=hosts, more=more))
    assert ([vhost.name for vhost in loaded.model.virtual_hosts], loaded.model.name) == (["b"], "b")


def test_a_missing_file(file: Path) -> None:
    (fault,) = load_xml(file).faults
    assert (fault.line, fault.file) == (0, str(file))
    assert str(fault) == f"Can't read {file}: No such file or directory ({file})"


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"<Server version='8'>", b"not xml", b"<Server version='8'>&foo;</Server>"]
)
def test_what_is_no_xml(file: Path, content: bytes) -> None:
    loaded = load(file, content)
    assert loaded.faults
    assert all(fault.message.startswith("Not well-formed") for fault in loaded.faults)


def test_the_line_of_what_is_not_well_formed(file: Path) -> None:
    assert load(file, "<Server version='8'>\n\n<Name>x</Nam>\n</Server>").faults[0].line == 3


def test_another_root(file: Path) -> None:
    assert messages(load(file, "<Service/>")) == [("The root element must be Server, not Service", 1)]


def test_entities_and_document_types_are_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    bomb = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(12))
    for entity in (f'<!ENTITY x SYSTEM "file://{tmp_path}/secret">', bomb, ""):
        document = f"<!DOCTYPE Server [{entity}]>{server(more='<Name>&#120;</Name>')}"
        assert messages(load(file, document)) == [("A document type (DOCTYPE) is not allowed", 1)]
    loaded = load(file, f"<!DOCTYPE Server [{bomb}]>" + server(more="<Name>&a11;</Name>"))
    assert loaded.faults


def test_deep_nesting_is_a_fault(file: Path) -> None:
    loaded = load(file, '<Server version="8">' + "<Bind>" * 10_000 + "</Bind>" * 10_000 + "</Server>")
    assert loaded.faults[0].message.startswith("Not well-formed: Excessive depth")


def test_a_huge_file_is_a_fault(file: Path) -> None:
    loaded = load(file, server(more="<Name>" + "x" * xml_module.LARGEST_FILE + "</Name>"))
    assert messages(loaded) == [(f"Can't read {file}: it is larger than 4 MiB", 0)]


def test_deprecated_parts_are_kept_as_they_are(file: Path) -> None:
    streams = "<Stream><Name>a</Name></Stream><Stream><Name>b</Name></Stream>"
    body = f"<PersistentStreams>{streams}</PersistentStreams><Publishers><RTMPPush/></Publishers>"
    loaded = load(file, server(apps=application(body)))
    assert loaded.model.virtual_hosts[0].applications[0].publishers.rtmp_push == models.LegacyPush()
    raw = loaded.raw["virtualHosts"][0]["applications"][0]
    applications = "Server.VirtualHosts.VirtualHost.Applications.Application"
    assert [warning.message for warning in loaded.warnings] == [
        f"{applications}.Publishers.RTMPPush is of old: write Push",
        f"{applications}.PersistentStreams is of old: write Origins with Persistent",
    ]
    assert raw["persistentStreams"] == {"stream": [{"name": "a"}, {"name": "b"}]}


def test_certificates_lie_beside_the_file_that_names_them(tmp_path: Path) -> None:
    inner = tmp_path / "hosts" / "VHost.xml"
    inner.parent.mkdir()
    tls = "<TLS><CertPath>a.crt</CertPath><KeyPath>../a.key</KeyPath><ChainCertPath>/etc/c.crt</ChainCertPath></TLS>"
    inner.write_text(f"<VirtualHost><Name>v</Name><Host>{tls}</Host></VirtualHost>")
    managers = "<Managers><Host><TLS><CertPath>${env:CERT}</CertPath><KeyPath></KeyPath></TLS></Host></Managers>"
    text = server(more=managers, hosts='<VirtualHost include="hosts/*.xml"/>')
    loaded = load(tmp_path / "Server.xml", text, CERT="api.crt")
    (vhost,) = loaded.model.virtual_hosts
    wanted = (f"{inner.parent}/a.crt", f"{inner.parent}/../a.key", "/etc/c.crt")
    assert vhost.host.tls is not None
    assert (vhost.host.tls.cert_path, vhost.host.tls.key_path, vhost.host.tls.chain_cert_path) == wanted
    own = loaded.model.managers.host.tls
    assert own is not None
    assert (own.cert_path, own.key_path) == (f"{tmp_path}/api.crt", "")
    assert loaded.raw["virtualHosts"][0]["host"]["tls"]["certPath"] == "a.crt"


def test_a_fault_found_later_has_the_line_of_its_setting(file: Path) -> None:
    loaded = load(file, server(apps="\n" + application()))
    where = ("virtualHosts", 0, "applications", 0, "type", "what was not written")
    fault = loaded.fault_at(where, "Server.X", "is wrong", "Mend it.")
    assert str(fault) == f"Server.X: is wrong ({file}, line 3) Mend it."
