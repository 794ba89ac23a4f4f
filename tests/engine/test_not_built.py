"""What is set and not built is told, and what guards something is refused."""

from __future__ import annotations

from pathlib import Path

from appliance.engine.not_built import refused_providers, refused_publishers, without_effect
from appliance.engine.renditions import allowed_modules
from appliance.settings import models
from appliance.settings.xml import DEFAULT_XML, load_xml

SERVER = """<Server version="8"><Type>origin</Type><IP>*</IP><Bind/>
<VirtualHosts><VirtualHost><Name>tv</Name>
<SignedPolicy><PolicyQueryKeyName>p</PolicyQueryKeyName><SignatureQueryKeyName>s</SignatureQueryKeyName>
<SecretKey>k</SecretKey><Enables><Providers>rtmp, srt</Providers><Publishers>llhls</Publishers></Enables></SignedPolicy>
<Applications><Application><Name>app</Name><Type>live</Type>
<Providers><RTMP/><SRT/></Providers><Publishers><LLHLS/><OVT/></Publishers></Application></Applications>
</VirtualHost></VirtualHosts></Server>"""


def load(folder: Path, text: str = SERVER) -> models.Server:
    file = folder / "Server.xml"
    file.write_text(text)
    return load_xml(file).model


def test_each_thing_is_told_by_its_path(tmp_path: Path) -> None:
    told = dict(without_effect(load(tmp_path)))
    assert told == {
        "VirtualHost tv/SignedPolicy": "not enforced in this version: what it lists is refused (rtmp, srt, llhls)",
        "VirtualHost tv/Application app/Publishers/OVT": "off",
    }


EVERYTHING = """<Server version="8"><Type>edge</Type><IP>*</IP><StunServer>a:1</StunServer>
<PrivacyProtection>true</PrivacyProtection><Bind><Providers>
<RTMP><TLSPort>1</TLSPort></RTMP><RTSP/><RTSPC/><OVT/><MPEGTS/><SRT/><WebRTC/></Providers>
<Publishers><LLHLS/><HLS/><Thumbnail/><WebRTC/><SRT/><OVT/></Publishers></Bind>
<Modules><DynamicAppRemoval><Enable>true</Enable></DynamicAppRemoval><MediaRoot>/a</MediaRoot>
<Egress><Allow>10.0.0.0/8</Allow></Egress></Modules>
<VirtualHosts><VirtualHost><Name>v</Name><Host><TLS><CertPath>a</CertPath><KeyPath>a</KeyPath></TLS></Host><Applications>
<Application><Name>a</Name><Type>live</Type><OutputProfiles><HardwareAcceleration>true</HardwareAcceleration>
<Decodes><ThreadCount>4</ThreadCount><OnlyKeyframes>true</OnlyKeyframes></Decodes>
<OutputProfile><Name>p</Name><OutputStreamName>s</OutputStreamName><Playlist><FileName>f</FileName>
<Options><EnableTsPackaging>true</EnableTsPackaging></Options></Playlist></OutputProfile></OutputProfiles>
<Providers><RTMP><UseIncomingTimestamp>true</UseIncomingTimestamp></RTMP></Providers>
<Publishers><LLHLS><DVR><Enable>true</Enable></DVR><DRM><Enable>true</Enable></DRM>
<Dumps><Dump><Enable>false</Enable></Dump><Dump><Enable>true</Enable></Dump></Dumps></LLHLS></Publishers>
</Application></Applications></VirtualHost></VirtualHosts></Server>"""


def test_all_that_is_set_without_use_is_told_once(tmp_path: Path) -> None:
    told = [path for path, _ in without_effect(load(tmp_path, EVERYTHING))]
    app = "VirtualHost v/Application a"
    server = ["Type", "StunServer", "PrivacyProtection"]
    server += [f"Bind/Providers/{name}" for name in ("RTSP", "WebRTC")]
    server += [f"Bind/Publishers/{name}" for name in ("WebRTC", "OVT")]
    profiles = ["HardwareAcceleration", "Decodes/OnlyKeyframes"]
    assert told == [
        *(f"Server/{path}" for path in server),
        f"{app}/Providers/RTMP/UseIncomingTimestamp",
        *(f"{app}/Publishers/LLHLS/{name}" for name in ("DRM",)),
        *(f"{app}/OutputProfiles/{name}" for name in profiles),
    ]


HLS = """<HLS><OriginMode>true</OriginMode><DVR><Enable>true</Enable></DVR>
<CacheControl><ChunklistWithDirectivesMaxAge>1</ChunklistWithDirectivesMaxAge></CacheControl>
<DefaultQueryString><Query><Key>_HLS_rewind</Key><Value>YES</Value></Query></DefaultQueryString></HLS>"""


def test_what_hls_of_version_3_does_without_is_told(tmp_path: Path) -> None:
    told = [path for path, _ in without_effect(load(tmp_path, SERVER.replace("<OVT/>", HLS)))]
    names = ["OriginMode", "CacheControl/ChunklistWithDirectivesMaxAge", "DefaultQueryString", "DVR"]
    assert told[1:] == [f"VirtualHost tv/Application app/Publishers/HLS/{name}" for name in names]


def test_times_of_the_source_are_kept_by_no_provider(tmp_path: Path) -> None:
    mode = "<TimestampMode>Original</TimestampMode>"
    wanted = f"<RTMP>{mode}</RTMP><SRT>{mode}</SRT><MPEGTS>{mode}</MPEGTS>"
    told = [path for path, _ in without_effect(load(tmp_path, SERVER.replace("<RTMP/><SRT/>", wanted)))]
    names = ("RTMP", "SRT", "MPEGTS")
    assert [path for path in told if "/Providers/" in path] == [
        f"VirtualHost tv/Application app/Providers/{name}/TimestampMode" for name in names
    ]


def test_what_is_written_as_the_default_is_not_told(tmp_path: Path) -> None:
    plain = EVERYTHING.replace("true", "false").replace(">4<", ">2<").replace(">edge<", ">origin<")
    told = [path for path, _ in without_effect(load(tmp_path, plain))]
    assert [path for path in told if "/Bind/" not in path] == [
        "Server/StunServer",
    ]


def test_the_default_asks_for_nothing_that_is_not_there() -> None:
    assert list(without_effect(load_xml(DEFAULT_XML).model)) == []


def test_what_a_policy_lists_is_refused(tmp_path: Path) -> None:
    (vhost,) = load(tmp_path).virtual_hosts
    assert refused_providers(vhost) == {"RTMP", "SRT"}
    assert refused_publishers(vhost) == {"LLHLS"}


def test_hardware_modules_need_hwaccels_and_software_is_always_left() -> None:
    off, on = models.HwAccel(), models.HwAccel(enable=True)
    listed = models.HwAccel(enable=True, modules="nv:0, qsv")
    assert allowed_modules((), off) == ("default",)
    assert allowed_modules(("nv:0",), off) == ("default",)
    assert allowed_modules(("x264",), off) == ("x264",)
    assert allowed_modules(("nv:1",), on) == ("nv:1", "default")
    assert allowed_modules((), listed) == ("nv:0", "qsv", "default")
    assert allowed_modules((), on)[-1] == "default"
    assert allowed_modules(("default", "nv"), on) == ("default", "nv")
