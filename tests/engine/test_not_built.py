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
<Providers><RTMP/><SRT/></Providers><Publishers><LLHLS/><Push/></Publishers></Application></Applications>
</VirtualHost></VirtualHosts></Server>"""


def load(folder: Path) -> models.Server:
    file = folder / "Server.xml"
    file.write_text(SERVER)
    return load_xml(file).model


def test_each_thing_is_told_by_its_path(tmp_path: Path) -> None:
    told = dict(without_effect(load(tmp_path)))
    assert told == {
        "VirtualHost tv/SignedPolicy": "not enforced in this version: what it lists is refused (rtmp, srt, llhls)",
        "VirtualHost tv/Application app/Providers/SRT": "off",
        "VirtualHost tv/Application app/Publishers/Push": "off",
    }


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
