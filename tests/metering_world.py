"""A head-end and a meter with real keys, for tests of the rollover, and words for what they say."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from agents.keys import SoftwareSigner
from protocol.metering import envelope, rollover, rollover_messages
from protocol.metering.agreement import KdfSettings, Scheme
from protocol.metering.keys import KeyKind, KeySet
from protocol.metering.rollover import (
    Effects,
    HeadEnd,
    Meter,
    MeterState,
    Pairing,
    Plan,
    Send,
    Settled,
)
from protocol.metering.rollover_messages import Message
from protocol.metering.suite import SUITE_1, Suite
from protocol.metering.title import SystemTitle

HEAD_END, METER = SystemTitle.of_maker("TRL", 1), SystemTitle.of_maker("TRL", 2)
SCHEMES = [Scheme.EPHEMERAL, Scheme.ONE_PASS]
AGREED = (KeyKind.UNICAST, KeyKind.AUTHENTICATION, KeyKind.MASTER)
FIRST = KeySet(0, {kind: bytes([kind]) * 16 for kind in AGREED})
_Effect = TypeVar("_Effect")


@cache
def key(name: str, suite: Suite = SUITE_1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(suite.curve)


def pairing_of(own: str, peer: str, settings: KdfSettings | None = None) -> Pairing:
    titles = {"head-end": HEAD_END, "meter": METER}
    signer = SoftwareSigner(key(own), even_y=False)
    made = Pairing(SUITE_1, titles[own], signer, titles[peer], key(peer).public_key())
    return made if settings is None else replace(made, settings=settings)


def head_end(state: rollover.HeadEndState | None = None, settings: KdfSettings | None = None) -> HeadEnd:
    return HeadEnd(pairing_of("head-end", "meter", settings), state or Settled(FIRST), key("ka").public_key())


def meter(state: MeterState | None = None, *, has_static: bool = True, kind: str = "ka") -> Meter:
    static = key(kind) if has_static else None
    return Meter(pairing_of("meter", "head-end"), state or MeterState(FIRST), new, static)


def new() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(SUITE_1.curve)


def plan(
    scheme: Scheme = Scheme.EPHEMERAL,
    kinds: Iterable[KeyKind] = AGREED,
    transferred: dict[KeyKind, bytes] | None = None,
) -> Plan:
    return Plan(scheme, b"12345678", {kind: new() for kind in kinds}, transferred or {})


def sent(effects: Effects) -> bytes:
    (message,) = [effect.message for effect in effects if isinstance(effect, Send)]
    return message


def only(effects: Effects, kind: type[_Effect]) -> _Effect:
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found


def said(data: bytes) -> Message:
    return rollover_messages.decode(envelope.decode(data).content)


def by_head_end(message: Message, transaction_id: bytes = b"12345678") -> bytes:
    return pairing_of("head-end", "meter").seal(transaction_id, message)


def by_meter(message: Message, transaction_id: bytes = b"12345678") -> bytes:
    return pairing_of("meter", "head-end").seal(transaction_id, message)
