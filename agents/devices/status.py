"""What a device holds, for people and for scripts."""

from dataclasses import dataclass
from enum import StrEnum

from agents.devices.identity import Identity
from agents.devices.keystore import KeyStore
from protocol import c509
from protocol.labels import Domain, Operation
from protocol.profiles import profile_of
from protocol.renewal import is_renewal_due
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
    thumbprint: bytes | None = None
    """c5t of what is installed, 8 bytes."""


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
    is_rekey_due: bool | None
    """Whether this device's moment for the next one has come (`protocol.renewal`); None where it has no clock
    and cannot know."""
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
    chain: tuple[bytes, ...]
    """c5t of the authority's certificates; none where it never asked for them."""
    crl_number: int
    """Of the newest revocation list that was verified; 0 for none."""
    labels: tuple[LabelStatus, ...]
    at: str | None = None
    """Where the owner's authority is, a URI, if the owner before said so; None: as configured."""

    @property
    def knows_chain(self) -> bool:
        """Whether the authority's certificates are here."""
        return bool(self.chain)


def status_of(identity: Identity, store: KeyStore, clock: Clock) -> DeviceStatus:
    """Return what the device holds; reads nothing from the disk."""
    trust = store.trust
    chain = () if trust.chain is None else c509.decode_chain(trust.chain)
    return DeviceStatus(
        identity.device,
        identity.label,
        identity.domain,
        identity.client_id,
        trust.authority,
        trust.epoch,
        tuple(c509.thumbprint(certificate.encoded) for certificate in chain),
        trust.crl_number,
        tuple(_label_status(identity.device, label, store, clock) for label in store.labels()),
        trust.at,
    )


def _label_status(device: str, label: str, store: KeyStore, clock: Clock) -> LabelStatus:
    pending = store.pending(label)
    begun = None
    if pending is not None:
        phase = Phase.REQUESTED if pending.certificate is None else Phase.INSTALLED
        installed = None if pending.certificate is None else c509.thumbprint(pending.certificate)
        begun = PendingStatus(pending.op, phase, installed)
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
        is_rekey_due=is_renewal_due(
            profile_of(label), certificate.not_before, certificate.not_after, device, clock
        ),
        pending=begun,
    )
