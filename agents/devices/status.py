"""What a device holds, for people and for scripts."""

from dataclasses import dataclass
from enum import StrEnum

from agents.devices.identity import Identity
from agents.devices.keystore import KeyStore
from protocol import c509
from protocol.labels import Domain, Operation
from protocol.profiles import profile_of
from protocol.validity import Clock, Verdict


class Phase(StrEnum):
    """How far a pending certificate is."""

    REQUESTED = "requested"
    """The request is stored, and may have been sent."""
    INSTALLED = "installed"
    """The certificate is stored, and the authority may not know it yet."""


@dataclass(frozen=True, slots=True)
class PendingStatus:
    """Something that was begun and not ended."""

    op: Operation
    phase: Phase


@dataclass(frozen=True, slots=True)
class LabelStatus:
    """What the device holds under one label."""

    label: str
    serial: bytes | None
    """Of the current certificate; None where there is none."""
    thumbprint: bytes | None
    """c5t, 8 bytes."""
    not_before: int | None
    """POSIX seconds."""
    not_after: int | None
    """POSIX seconds; None where it never ends, or there is no certificate."""
    validity: Verdict | None
    is_rekey_due: bool
    """Whether the part of the validity is over after which the profile wants the next one."""
    pending: PendingStatus | None


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """Who a device is, whom it belongs to, and what it holds."""

    device: str
    label: str
    domain: Domain
    client_id: str
    authority: bytes
    epoch: int
    knows_chain: bool
    labels: tuple[LabelStatus, ...]


def status_of(identity: Identity, store: KeyStore, clock: Clock) -> DeviceStatus:
    """Return what the device holds; reads nothing from the disk."""
    trust = store.trust
    return DeviceStatus(
        identity.device,
        identity.label,
        identity.domain,
        identity.client_id,
        trust.authority,
        trust.epoch,
        trust.chain is not None,
        tuple(_label_status(label, store, clock) for label in store.labels()),
    )


def _label_status(label: str, store: KeyStore, clock: Clock) -> LabelStatus:
    pending = store.pending(label)
    begun = None
    if pending is not None:
        phase = Phase.REQUESTED if pending.certificate is None else Phase.INSTALLED
        begun = PendingStatus(pending.op, phase)
    encoded = store.current_certificate(label)
    if encoded is None:
        return LabelStatus(label, None, None, None, None, None, is_rekey_due=False, pending=begun)
    certificate = c509.decode_certificate(encoded)
    return LabelStatus(
        label,
        certificate.serial,
        c509.thumbprint(encoded),
        certificate.not_before,
        certificate.not_after,
        clock.judge(certificate.not_before, certificate.not_after),
        is_rekey_due=_is_rekey_due(certificate, label, clock),
        pending=begun,
    )


def _is_rekey_due(certificate: c509.Certificate, label: str, clock: Clock) -> bool:
    if certificate.not_after is None:
        return False
    span = certificate.not_after - certificate.not_before
    due = certificate.not_before + profile_of(label).renew_after * span
    return max(clock.floor, clock.now or 0) >= due
