"""Server.xml files for tests: out of raw trees, and out of the pieces that a test is about."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from appliance.settings.schema import Field, Node, Raw, fields_of

SERVER = """<Server version="10"><Type>origin</Type><IP>*</IP><Bind>{bind}</Bind>{more}
<VirtualHosts>{hosts}</VirtualHosts></Server>"""
HOST = "<VirtualHost><Name>default</Name><Applications>{apps}</Applications></VirtualHost>"


def server(*, bind: str = "", more: str = "", hosts: str = "", apps: str = "") -> str:
    return SERVER.format(bind=bind, more=more, hosts=hosts or (HOST.format(apps=apps) if apps else ""))


def application(body: str = "", *, name: str = "app") -> str:
    return f"<Application><Name>{name}</Name><Type>live</Type>{body}</Application>"


def profile(body: str) -> str:
    """An application with one profile that holds ``body``."""
    return application(
        f"<OutputProfiles><OutputProfile><Name>p</Name><OutputStreamName>s</OutputStreamName>{body}</OutputProfile>"
        "</OutputProfiles>"
    )


def to_xml(model: type[Node], raw: Raw) -> str:
    """The elements below ``model`` that say what ``raw`` says."""
    return "".join(_field(field, raw[field.json]) for field in fields_of(model) if field.json in raw)


def _field(field: Field, value: Any) -> str:
    if not field.many:
        return f"<{field.xml}>{_value(field, value)}</{field.xml}>"
    items = value[field.item_json] if field.nested else value
    body = "".join(f"<{field.xml}>{_value(field, item)}</{field.xml}>" for item in items)
    return f"<{field.container}>{body}</{field.container}>" if field.container else body


def _value(field: Field, value: Any) -> str:
    if field.section:
        return to_xml(field.section, value)
    return escape(text_of(value))


def text_of(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_texts(value: Any) -> Any:
    """A raw tree as it comes from XML: every value a text."""
    if isinstance(value, dict):
        return {key: as_texts(below) for key, below in value.items()}
    if isinstance(value, list):
        return [as_texts(item) for item in value]
    return text_of(value)
