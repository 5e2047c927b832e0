"""Who a device is, what it believes, and what it can sign with: everything of it that does not wait.

Makes the machines that `agents.devices.agent` drives. Blocks on the disk and on key generation.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from agents.devices.cabinet import Cabinet
from agents.devices.identity import VOUCHER, Identity, IdentityError
from agents.devices.keystore import KeyStore
from agents.devices.record import TrustRecord
from agents.keys import SoftwareSigner
from protocol import c509
from protocol.cose import Algorithm, PublicKey
from protocol.end_entity import holder_of
from protocol.errors import EnrollmentError
from protocol.exchange.device import Enrollment, Order
from protocol.exchange.device_check import CheckIn
from protocol.exchange.device_delivery import Delivery, DeliveryOrder
from protocol.exchange.device_effects import Credential
from protocol.exchange.device_fetch import Fetch, RevocationList, fetch_revocations, fetch_template
from protocol.exchange.device_pace import Patience
from protocol.exchange.device_return import GiveBack
from protocol.exchange.device_trust import Anchor, Trust
from protocol.exchange.request import NONCE_BYTES, RevocationReason
from protocol.labels import Operation
from protocol.path import BASIC_CONSTRAINTS, Authority
from protocol.ports import Media
from protocol.profiles import Profile, profile_of, services_of
from protocol.validity import Clock
from protocol.voucher import read_voucher

CHECK_SECONDS: Final = 60.0
"""How long a device asks whether it is still known; it has other things to do, and asks again another day."""


class DeviceError(ValueError):
    """What was asked of the device cannot be done as things are; the text is for people."""


class Bearer:
    """The holder of one identity and one key store.

    Args:
        identity: What the factory put into the device.
        store: Its key store.
        bootstrap: Its tier 1 credential.
        wall: Tells POSIX seconds; None for a device without a clock.
        patience: Limits of its exchanges.
    """

    def __init__(
        self,
        identity: Identity,
        store: KeyStore,
        bootstrap: Credential,
        wall: Callable[[], float] | None,
        patience: Patience,
    ) -> None:
        self.patience: Final = patience
        self._identity = identity
        self._store = store
        self._bootstrap = bootstrap
        self._root = identity.root()
        self._voucher_keys: tuple[PublicKey, ...] = (identity.voucher_key(),)
        self._wall = wall

    @property
    def message_label(self) -> str:
        """The label whose key signs messages; DeviceError where none does."""
        for label in services_of(self._identity.label):
            if profile_of(label).signs_messages:
                return label
        raise DeviceError(f"no label of {self._identity.label} devices signs messages")

    @property
    def first_label(self) -> str:
        """The label that is enrolled first, because the tier 1 certificate opens it."""
        for label in services_of(self._identity.label):
            if self._identity.label in profile_of(label).opened_by:
                return label
        raise DeviceError(f"{self._identity.label} opens no label")

    def prepare(self, label: str, op: Operation) -> Enrollment | Delivery:
        """Return the machine that goes on with what is pending under `label`, or else begins `op`.

        Blocks on the disk and on key generation.

        Raises:
            DeviceError: The certificate that opens this door is not there yet.
            StoreError: The passphrase is wrong.
        """
        profile = profile_of(label)
        pending = self._store.pending(label)
        if pending is not None:
            op = pending.op
        if profile.is_key_generated and (pending is None or pending.certificate is None):
            return self._delivery(profile, op, None if pending is None else pending.request)
        requester = self._requester(profile, op)
        confirmer = None if profile.confirmed_by == label else self._signer(profile, Operation.CONF)
        if pending is None:
            new_key = self._store.begin(label, op, profile.algorithms[0])
        else:
            new_key = self._store.pending_key(label)
        clock = self.clock()
        order = Order(
            profile=profile,
            op=op,
            requester=requester,
            new_key=new_key,
            confirmer=confirmer,
            request=None if pending is None else pending.request,
            certificate=None if pending is None else pending.certificate,
        )
        return Enrollment(self._trust(clock), order, clock, self.patience)

    def _delivery(self, profile: Profile, op: Operation, request: bytes | None) -> Delivery:
        requester = self._requester(profile, op)
        if not isinstance(requester.signer, SoftwareSigner):
            raise DeviceError(f"the key that signs for {profile.label} cannot agree on keys")
        if request is None:
            self._store.begin_without_key(profile.label, op)
        name = self._identity.device
        if op is Operation.SREN and profile.is_granted_name:
            name = holder_of(c509.decode_certificate(requester.certificate), profile)
        try:
            root = self._identity.vouching_root()
        except IdentityError as error:
            raise DeviceError(f"nobody can be believed who brings a key: {error}") from None
        clock = self.clock()
        order = DeliveryOrder(
            profile=profile,
            op=op,
            requester=requester,
            agreement=requester.signer,
            name=name,
            nonce=secrets.token_bytes(NONCE_BYTES),
            root=root,
            adopt=SoftwareSigner,
            request=request,
        )
        return Delivery(self._trust(clock), order, clock, self.patience)

    def _requester(self, profile: Profile, op: Operation) -> Credential:
        """Return who signs for a new certificate: of a generated key the operation alone does not say it."""
        if not profile.is_key_generated:
            return self._signer(profile, op)
        rekeyers = () if profile.rekeyed_by is None else (profile.rekeyed_by,)
        return self._one_of(profile, profile.opened_by if op is Operation.SEN else rekeyers)

    def give_back(self, label: str, reason: RevocationReason) -> GiveBack:
        """Return the machine that gives the current certificate of `label` back; DeviceError without one."""
        current = self._store.current(label)
        if current is None:
            raise DeviceError(f"no certificate under {label} to give back")
        signer = self._signer(profile_of(label), Operation.REV)
        clock = self.clock()
        return GiveBack(self._trust(clock), label, current.certificate, signer, reason, clock, self.patience)

    def check_in(self, label: str) -> CheckIn:
        """Return the machine that asks whether the current certificate of `label` is still known.

        Raises:
            DeviceError: There is none.
        """
        current = self._store.current(label)
        if current is None:
            raise DeviceError(f"no certificate under {label} to ask about")
        signer = self._signer(profile_of(label), Operation.CONF)
        clock = self.clock()
        patience = replace(self.patience, give_up=min(self.patience.give_up, CHECK_SECONDS))
        return CheckIn(self._trust(clock), label, current.certificate, signer, clock, patience)

    def fetch_revocations(
        self, media: Media = Media.PKIX_CRL, known: RevocationList | None = None
    ) -> Fetch[RevocationList]:
        """Return the machine that fetches the authority's revocation list, or what is new since `known`."""
        clock = self.clock()
        lowest = self._store.trust.crl_number
        return fetch_revocations(
            self._trust(clock), self.first_label, lowest, clock, self.patience, media=media, known=known
        )

    def fetch_template(self, label: str) -> Fetch[tuple[Algorithm, ...]]:
        """Return the machine that asks which algorithms the authority takes under `label`."""
        clock = self.clock()
        return fetch_template(self._trust(clock), profile_of(label), clock, self.patience)

    def take_voucher(self, voucher: bytes) -> None:
        """Accept a new owner, whom the maker or the present owner names; blocks on the disk.

        What the owner before issued is no longer used: enroll again.

        Raises:
            MalformedMessage: Not a voucher.
            RequestRejected: By another key, for another device, or not of a later epoch.
        """
        self._store.take_voucher(self._trust(self.clock()).read_voucher(voucher))

    def _signer(self, profile: Profile, op: Operation) -> Credential:
        return self._one_of(profile, profile.signers_of(op))

    def _one_of(self, profile: Profile, labels: tuple[str, ...]) -> Credential:
        for label in labels:
            credential = self._bootstrap if label == self._identity.label else self._store.current(label)
            if credential is not None:
                return credential
        if not labels:
            raise DeviceError(f"{profile.label} certificates come from the factory only")
        raise DeviceError(
            f"{profile.label} needs a certificate under {' or '.join(labels)}: enroll that first"
        )

    def certificate(self, label: str) -> c509.Certificate:
        """Return the current certificate of `label`; DeviceError without one."""
        return c509.decode_certificate(self.credential(label).certificate)

    def credential(self, label: str) -> Credential:
        """Return the current key and certificate of `label`; DeviceError without them."""
        current = self._store.current(label)
        if current is None:
            raise DeviceError(f"no certificate under {label}")
        return current

    def agreement_key(self, label: str) -> ec.EllipticCurvePrivateKey:
        """Return the private key of `credential`, to agree on keys with; DeviceError without one."""
        self.credential(label)
        return self._store.agreement_key(label)

    def authority(self) -> Authority:
        """Return the device's authority, verified; DeviceError before the first enrollment."""
        authority = self._trust(self.clock()).authority
        if authority is None:
            raise DeviceError("nothing is known of the authority yet: enroll first")
        return authority

    def chain(self) -> tuple[c509.Certificate, ...]:
        """Return the CAs of the device's authority: the issuing one, then those above it, without the root.

        Verified when they were learned; DeviceError before the first enrollment.
        """
        known = self._store.trust.chain
        if known is None:
            raise DeviceError("nothing is known of the authority yet: enroll first")
        return tuple(ca for ca in c509.decode_chain(known) if ca.extension(BASIC_CONSTRAINTS) is not None)

    def cabinet(self, name: str) -> Cabinet:
        """Return a folder for more secrets of the device, beside its keys and encrypted as they are."""
        return self._store.cabinet(name)

    def _trust(self, clock: Clock) -> Trust:
        record = self._store.trust
        anchor = Anchor(self._identity.device, self._root, record.authority, record.epoch, self._voucher_keys)
        return Trust(anchor, record.seen, record.chain, clock)

    def clock(self) -> Clock:
        """Return what is known of the time."""
        return Clock(None if self._wall is None else int(self._wall()), self._store.floor)


def first_owner(identity: Identity) -> TrustRecord:
    """Return whose the factory says that a device is; IdentityError if its voucher does not verify."""
    try:
        voucher = read_voucher(identity.voucher(), (identity.voucher_key(),), device=identity.device)
    except EnrollmentError as error:
        raise IdentityError(f"{identity.folder / VOUCHER}: {error}") from None
    return TrustRecord(voucher.encoded, voucher.authority, voucher.epoch)
