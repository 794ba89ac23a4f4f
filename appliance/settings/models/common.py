"""Sections that several parts of Server.xml share."""

from __future__ import annotations

from typing import Annotated

from appliance.settings.schema import Listed, Named, Node


class Header(Node, frozen=True, kw_only=True):
    """One CORS header ``key: value`` that answers carry."""

    key: str
    value: str


class CrossDomains(Node, frozen=True, kw_only=True):
    """Who may read answers from a browser (catalogue 2.5): patterns with ``*`` and ``?``; ``*`` alone is everybody."""

    urls: Annotated[tuple[str, ...], Listed("Url", json="urls")] = ()
    headers: Annotated[tuple[Header, ...], Listed("Header", json="headers")] = ()


class TLS(Node, frozen=True, kw_only=True):
    """Certificate files in PEM; relative to the folder of the file that names them. ``self_signed`` is Kiln's own: the
    box makes its certificate itself, and renews it; the files go before it."""

    cert_path: str = ""
    key_path: str = ""
    chain_cert_path: str = ""
    self_signed: bool = False


class Host(Node, frozen=True, kw_only=True):
    """The host names that a virtual host answers to (``*`` and ``?`` allowed) and its certificate."""

    names: Annotated[tuple[str, ...], Listed("Name", "Names")] = ()
    tls: Annotated[TLS | None, Named("TLS", "tls")] = None


class Enables(Node, frozen=True, kw_only=True):
    """Comma separated names of the protocols that a policy or webhook covers."""

    providers: str = ""
    publishers: str = ""
