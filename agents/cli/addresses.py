"""Addresses as people write them: HOST:PORT, [IPv6]:PORT, coap://…, mqtt://…, mqtts://…."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from agents.cli.failure import USAGE, Failure

DEFAULT_PORTS: Final = {"coap": 5683, "mqtt": 1883, "mqtts": 8883}

Address = tuple[str, int]


def parse_address(text: str, option: str) -> Address:
    """Return host and port of `text`; port 0 means any free one.

    Raises:
        Failure: Not HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Failure(f"{option} {text}: write an IPv6 address in brackets, as [::1]:5683", USAGE)
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Failure(f"{option} {text}: expected HOST:PORT, as 127.0.0.1:5683 (0: any free port)", USAGE)
    return host, int(port)


def parse_uri(text: str, option: str, schemes: tuple[str, ...]) -> tuple[str, Address]:
    """Return scheme and address of a URI; a missing port is the scheme's own.

    Raises:
        Failure: Not such a URI.
    """
    expected = " or ".join(f"{scheme}://HOST:PORT" for scheme in schemes)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    superfluous = parts.path not in ("", "/") or parts.query or parts.username
    if parts.scheme not in schemes or not host or superfluous:
        raise Failure(f"{option} {text}: expected {expected}", USAGE)
    return parts.scheme, (host, DEFAULT_PORTS[parts.scheme] if port is None else port)


def as_text(address: Address) -> str:
    """Return HOST:PORT."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`; a name counts only if it is "localhost"."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
