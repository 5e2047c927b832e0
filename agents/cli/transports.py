"""A device's way to its authority, by URI: coap://, mqtt:// or mqtts://."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from agents.charging.relay import Back
from agents.cli.addresses import parse_uri
from agents.cli.failure import USAGE, Failure
from agents.devices.identity import BOOTSTRAP_KEY, BOOTSTRAP_PEM, ROOT_PEM, Identity
from broker.client import connect as connect_mqtt
from constrained.client import Retransmission
from constrained.client import connect as connect_coap
from protocol.ports import DeviceTransport

SCHEMES = ("coap", "mqtt", "mqtts")


@asynccontextmanager
async def connect(
    via: str, identity: Identity, passphrase: bytes | None, *, ack_timeout: float = 2.0
) -> AsyncIterator[DeviceTransport]:
    """Connect a device.

    Args:
        via: Where to.
        identity: Whose client-id, root and tier 1 certificate to use.
        passphrase: Of the device's keys, if they are encrypted.
        ack_timeout: Seconds until CoAP repeats a message for the first time.

    Raises:
        Failure: Not such a URI, or the identity's TLS files cannot be used.
        Unreachable: Nobody there, or refused.
    """
    scheme, _ = parse_uri(via, "--via", SCHEMES)
    if scheme == "coap":
        async with connect_coap(via, retransmission=Retransmission(ack_timeout)) as transport:
            yield transport
        return
    context = tls_context(identity.folder, passphrase) if scheme == "mqtts" else None
    async with connect_mqtt(via, identity.client_id, ssl_context=context) as transport:
        yield transport


@asynccontextmanager
async def way_to_back_end(
    via: str, identity: Identity, passphrase: bytes | None, *, ack_timeout: float = 2.0
) -> AsyncIterator[Back]:
    """Lend a charging station's way to its back end to whoever has something to ask there.

    The back end may be away when the station starts. Over MQTT everything goes through one connection,
    because a client-id has one; over CoAP each errand has a socket of its own, because a context sends one
    message at a time.

    Raises:
        Failure: As `connect`.
    """
    scheme, _ = parse_uri(via, "--via", SCHEMES)
    if scheme == "coap":
        retransmission = Retransmission(ack_timeout)
        yield lambda: connect_coap(via, retransmission=retransmission)
        return
    context = tls_context(identity.folder, passphrase) if scheme == "mqtts" else None
    async with connect_mqtt(via, identity.client_id, ssl_context=context, at_once=False) as transport:
        yield lambda: nullcontext(transport)


def tls_context(folder: Path, passphrase: bytes | None) -> ssl.SSLContext:
    """Return a TLS context that shows a device's tier 1 certificate and trusts its root alone.

    Raises:
        Failure: A file is missing, or does not fit.
    """
    try:
        context = ssl.create_default_context(cafile=str(folder / ROOT_PEM))
        context.load_cert_chain(folder / BOOTSTRAP_PEM, folder / BOOTSTRAP_KEY, lambda: passphrase or b"")
    except (OSError, ValueError) as error:
        raise Failure(f"{folder}: its TLS files cannot be used: {error}", USAGE) from None
    return context
