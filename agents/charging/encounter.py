"""A car looks at the station that it was plugged into, before it asks anything of it.

The station proves its certificate over the car's nonce (`protocol.ev.station_proof`); the path validator
judges that certificate up to the pinned V2G root, with the role of a station; and the revocation list of its
issuer, which the station itself passes on, says whether it still is one. A list has to be newer than any that
the car has seen of that issuer, and of its time. A station that keeps the list back gains what a car
concedes: `needs_status` decides.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
from anyio import to_thread

from agents.devices.agent import Device
from agents.devices.bearer import Bearer, DeviceError
from agents.devices.cabinet import CabinetError
from protocol import c509, cbor
from protocol.challenge import MAX_NONCE_BYTES, ProvingTransport
from protocol.end_entity import holder_of
from protocol.errors import (
    ExchangeTimeout,
    MalformedMessage,
    ProblemKind,
    RequestRejected,
    Unreachable,
)
from protocol.ev.station_proof import StationProof
from protocol.exchange.device_revocations import RevocationList, read_revocation_list
from protocol.labels import Operation
from protocol.path import Authority, verification_key
from protocol.ports import Content, Media, Outbound, Pending
from protocol.problem import Problem
from protocol.profiles import profile_of
from protocol.validator import Path, policy_of, validate
from protocol.validity import Clock, Verdict
from protocol.voucher import key_identifier

STATION_OF: Final[Mapping[str, str]] = {"ev-oem": "ev-secc", "ev20-oem": "ev20-secc"}
"""Label of the certificate that a station shows to a car, by the car's tier 1 label."""
CABINET: Final = "stations"
"""Where a car keeps how new the lists are that it has seen."""
MAX_ISSUERS: Final = 256
"""Issuers of stations' certificates that are remembered: each operator has one or two."""
ANSWER_SECONDS: Final = 5.0
"""How long a car waits for one answer (ISO 15118-2)."""
ATTEMPTS: Final = 4
"""How often it asks."""


@dataclass(frozen=True, slots=True)
class StationSeen:
    """A station whose certificate was verified."""

    seccid: str
    """Its name."""
    evse: str
    """What it calls the place where the car stands; its own word."""
    address: str
    certificate: c509.Certificate
    verdict: Verdict
    """VALID, or TIME_UNKNOWN for a car without a clock."""
    is_status_known: bool
    """Whether a revocation list says that it is not revoked."""


async def meet(
    device: Device,
    transport: ProvingTransport,
    *,
    address: str,
    roots: Sequence[c509.Certificate] = (),
    needs_status: bool = False,
) -> StationSeen:
    """Return the station at the other end of `transport`, verified.

    Args:
        device: The car.
        transport: To the station.
        address: Where that is, as the station calls it: coap://HOST:PORT.
        roots: V2G roots that are trusted besides the one that was pinned in the factory.
        needs_status: Whether a station is refused of which nobody says that it is not revoked.

    Raises:
        DeviceError: The device is no car.
        IdentityError: It pins no V2G root, and none is given.
        RequestRejected: The station is not one, or not the one at `address`; `PathRejected` where its
            certificate is at fault.
        MalformedMessage: Its proof is none.
        ExchangeTimeout: It does not answer.
    """
    label = STATION_OF.get(device.identity.label)
    if label is None:
        raise DeviceError(f"{device.identity.label} is no car's identity")
    anchors = list(roots) if roots else []
    if not roots:
        anchors.append(await to_thread.run_sync(device.identity.vouching_root))
    clock = await device.lend(lambda bearer: bearer.clock())
    nonce = os.urandom(MAX_NONCE_BYTES)
    proof = StationProof.decode(await _challenge(transport, label, nonce))
    leaf = proof.check(label=label, nonce=nonce, address=address)
    profile = profile_of(label)
    path = validate(leaf, proof.chain[1:], anchors, policy=policy_of(profile), clock=clock)
    revoked = await _revocations(device, transport, label, path, clock)
    if revoked is None and needs_status:
        raise RequestRejected(ProblemKind.SIGNER_REVOKED, "nobody says that the station is not revoked")
    if revoked is not None and leaf.serial.lstrip(b"\0") in revoked.serials:
        raise RequestRejected(ProblemKind.SIGNER_REVOKED, "the station's certificate is revoked")
    return StationSeen(
        holder_of(leaf, profile), proof.evse, address, leaf, path.verdict, is_status_known=revoked is not None
    )


async def _challenge(transport: ProvingTransport, label: str, nonce: bytes) -> bytes:
    for _ in range(ATTEMPTS):
        with anyio.move_on_after(ANSWER_SECONDS):
            try:
                answer = await transport.challenge(label, nonce)
            except Unreachable:
                continue
            if isinstance(answer, bytes):
                return answer
            if answer.kind is ProblemKind.NOT_FOUND:
                raise RequestRejected(ProblemKind.NOT_FOUND, f"nobody there has a certificate under {label}")
            await anyio.sleep(answer.retry_after or 1.0)
    raise ExchangeTimeout("the station does not prove who it is")


async def _revocations(
    device: Device, transport: ProvingTransport, label: str, path: Path, clock: Clock
) -> RevocationList | None:
    """Return the newest list of the station's issuer; None where none comes that holds."""
    issuer = path.certificates[1]
    authority = Authority(
        key_identifier(verification_key(issuer)),
        issuer,
        frozenset(),
        {},
        frozenset(),
        None,
        issuer.not_before,
    )
    name = authority.key_id.hex()
    lowest = await device.lend(lambda bearer: _lowest(bearer, name))
    for media in (Media.C509_CRL, Media.PKIX_CRL):
        data = await _fetch(transport, Outbound(label, Operation.CRL, accept=media))
        if data is None:
            continue
        try:
            found = read_revocation_list(
                data.body, authority, lowest_number=lowest, clock=clock, media=data.media
            )
        except (MalformedMessage, RequestRejected):
            continue
        if found.number > lowest:
            await device.lend(partial(_remember, name=name, number=found.number))
        return found
    return None


async def _fetch(transport: ProvingTransport, question: Outbound) -> Content | None:
    for _ in range(ATTEMPTS):
        with anyio.move_on_after(ANSWER_SECONDS):
            try:
                reply = await transport.exchange(question)
            except Unreachable:
                continue
            match reply:
                case Content():
                    return reply
                case Pending(seconds) | Problem(retry_after=float(seconds)):
                    await anyio.sleep(min(seconds, ANSWER_SECONDS))
                case _:
                    return None
    return None


def _lowest(bearer: Bearer, name: str) -> int:
    try:
        data = bearer.cabinet(CABINET).read(name)
        return 0 if data is None else int(cbor.decode(data))
    except (CabinetError, MalformedMessage, TypeError):
        return 0  # it protects from old lists alone


def _remember(bearer: Bearer, *, name: str, number: int) -> None:
    cabinet = bearer.cabinet(CABINET)
    if len(set(cabinet.names()) - {name}) < MAX_ISSUERS:
        cabinet.write(name, cbor.encode(number))
