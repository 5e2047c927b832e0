"""What a device says that it holds: the body of its signed messages on the stream `held`.

    [1, authority (32), epoch, [anchor (8), …], [chain (8), …], crlNumber, [[label, held (8), state], …]]

Certificates are named by c5t, SHA-256 cut to 8 bytes over their C509 form. A fleet's roots and owners drift
apart unnoticed (after a change of supplier one meter in ten was found with the chain of the one before), so
the report says whom the device believes as well as what it has: both are compared with what the store
expects (`agents.authority.reconcile`). Nothing in it is secret, and nothing is decided by it alone.
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, cast

from protocol import cbor
from protocol.errors import MalformedMessage
from protocol.voucher import AUTHORITY_BYTES

STREAM: Final = "held"
"""The stream of these messages."""
VERSION: Final = 1
THUMBPRINT_BYTES: Final = 8
MAX_CERTIFICATES: Final = 64
"""Twenty-four labels with a current and a pending certificate each, and room for those of other makers."""
MAX_CHAIN: Final = 16
"""Anchors, and certificates in a chain: a station holds up to ten roots of one name."""
MAX_NUMBER: Final = 1 << 63
_LABEL: Final = re.compile(r"[0-9a-z-]{1,32}")


class HeldState(IntEnum):
    """What a device does with a certificate that it holds."""

    CURRENT = 0
    """It is in use."""
    PENDING = 1
    """It is stored, and the authority's receipt for it has not come."""


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """One certificate on a device."""

    label: str
    """As the device calls it; perhaps none that the reader knows."""
    thumbprint: bytes
    """c5t, 8 bytes."""
    state: HeldState


@dataclass(frozen=True, slots=True)
class HeldReport:
    """Everything that a device holds."""

    authority: bytes
    """The authority that its voucher names, 32 bytes."""
    epoch: int
    """Number of its owner."""
    anchors: tuple[bytes, ...]
    """c5t of the roots that it believes."""
    chain: tuple[bytes, ...]
    """c5t of its authority's certificates as it got them from `crts`; none if it never asked."""
    crl_number: int
    """Of the newest revocation list that it has verified; 0 for none."""
    certificates: tuple[HeldCertificate, ...]

    def encode(self) -> bytes:
        """Return the message's body; `decode_held(report.encode()) == report`."""
        return cbor.encode(
            [
                VERSION,
                self.authority,
                self.epoch,
                list(self.anchors),
                list(self.chain),
                self.crl_number,
                [[held.label, held.thumbprint, int(held.state)] for held in self.certificates],
            ]
        )


def decode_held(body: bytes) -> HeldReport:
    """Return the report in a message's body.

    Args:
        body: Any bytes.

    Raises:
        MalformedMessage: Not a report of this version. No other exception leaves this function.
    """
    version, authority, epoch, anchors, chain, crl_number, held = cbor.decode_array(body, 7)
    if type(version) is not int or version != VERSION:
        raise MalformedMessage(f"a report of version {VERSION}")
    if type(authority) is not bytes or len(authority) != AUTHORITY_BYTES:
        raise MalformedMessage(f"an authority is named by {AUTHORITY_BYTES} bytes")
    return HeldReport(
        authority,
        _number(epoch),
        tuple(_thumbprint(one) for one in _list(anchors, MAX_CHAIN)),
        tuple(_thumbprint(one) for one in _list(chain, MAX_CHAIN)),
        _number(crl_number),
        tuple(_certificate(one) for one in _list(held, MAX_CERTIFICATES)),
    )


def _list(item: Any, most: int) -> list[Any]:  # noqa: ANN401 (a decoded item)
    if type(item) is not list or len(cast("list[Any]", item)) > most:
        raise MalformedMessage(f"a list of at most {most}")
    return cast("list[Any]", item)


def _number(item: Any) -> int:  # noqa: ANN401 (a decoded item)
    if type(item) is not int or not 0 <= item < MAX_NUMBER:
        raise MalformedMessage("a number from 0 on")
    return item


def _thumbprint(item: Any) -> bytes:  # noqa: ANN401 (a decoded item)
    if type(item) is not bytes or len(item) != THUMBPRINT_BYTES:
        raise MalformedMessage(f"a certificate is named by {THUMBPRINT_BYTES} bytes")
    return item


def _certificate(item: Any) -> HeldCertificate:  # noqa: ANN401 (a decoded item)
    match item:
        case [str(label), thumbprint, state] if _LABEL.fullmatch(label):
            if type(state) is not int or state not in tuple(HeldState):
                raise MalformedMessage("a certificate is current or pending")
            return HeldCertificate(label, _thumbprint(thumbprint), HeldState(state))
        case _:
            raise MalformedMessage("a certificate is [label, thumbprint, state]")
