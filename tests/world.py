"""A small real scheme: root, maker, owner, and an owner's authority that counts what it does.

Everything is signed and verified for real; only the store is a dictionary. Working defaults, so that a
test overrides the one thing that it is about.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.keys import SoftwareSigner, generate, save_private_key
from protocol import c509
from protocol.cose import is_signature_valid
from protocol.errors import EnrollmentError, MalformedMessage, ProblemKind, RequestRejected
from protocol.exchange.device_effects import Credential
from protocol.exchange.device_trust import Anchor, public_key_of
from protocol.exchange.request import (
    INSTALLED,
    Confirmation,
    Door,
    Revocation,
    SignedRequest,
    decode_request,
)
from protocol.identity import client_id
from protocol.labels import Domain, Operation, Tier
from protocol.message import decode_message, stream_aad
from protocol.ports import Content, Media, Outbound, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import (
    PROFILES,
    Form,
    KeyUsage,
    NameSpace,
    Prefix,
    Profile,
    policy_oid,
    profile_of,
)
from protocol.receipt import Receipt, sign_verdict
from protocol.signing import Signer
from protocol.voucher import Voucher, key_identifier

NOW: Final = 1_800_000_000
"""POSIX seconds: what time it is in the world."""
YEAR: Final = 365 * 24 * 3600
METER: Final = "54524C0000000001"
GATEWAY: Final = "02-54-52-FF-FE-00-00-01"
OURS: Final = (Prefix(NameSpace.FLAG, b"TRL"), Prefix(NameSpace.OUI, b"\x02TR"))
"""The prefixes of the maker's names."""
CMC_RA: Final = 16


def new_signer() -> SoftwareSigner:
    """Return a new P-256 key; nobody batches these signatures."""
    return SoftwareSigner(generate(), even_y=False)


def certify(
    issuer: "Ca | None",
    subject: str,
    key: Signer,
    *,
    form: int = 3,
    not_before: int = NOW - YEAR,
    not_after: int | None = None,
    extensions: tuple[c509.Extension, ...] = (),
    serial: bytes | None = None,
    name: c509.Name | None = None,
) -> c509.Certificate:
    """Return a certificate; `issuer` None is self-signed with `key`; `name` overrides `subject`."""
    point = key.public_key
    public_key = point if form == 2 else bytes((0x100 - point[0],)) + point[1:]
    name = name or c509.Name.common_name(subject)
    tbs = c509.TbsCertificate(
        form,
        serial or b"\x01" + hashlib.sha256(subject.encode() + point + bytes([form])).digest()[:7],
        0,
        None if issuer is None else issuer.certificate.subject,
        not_before,
        not_after,
        name,
        1,
        public_key,
        extensions,
    )
    signer = key if issuer is None else issuer.signer
    return tbs.with_signature(signer.sign(tbs.to_be_signed()))


@dataclass(frozen=True)
class Ca:
    """A certification authority: key and certificate."""

    signer: Signer
    certificate: c509.Certificate

    @property
    def key_id(self) -> bytes:
        key = self.certificate.load_public_key()
        return key_identifier(key)  # type: ignore[arg-type]  # an EC key, made here


def ca_extensions(labels: tuple[str, ...], prefixes: tuple[Prefix, ...] = ()) -> tuple[c509.Extension, ...]:
    """Return what a CA's certificate says: a CA, of what, and of whose names."""
    listed = [policy_oid(label) for label in labels] + [prefix.policy_oid for prefix in prefixes]
    policies = tuple(c509.PolicyInformation(_oid(oid)) for oid in listed)
    usage = KeyUsage.KEY_CERT_SIGN | KeyUsage.CRL_SIGN
    return (
        c509.Extension(4, critical=True, value=-1),
        c509.Extension(2, critical=True, value=int(usage)),
        *((c509.Extension(6, critical=False, value=policies),) if policies else ()),
    )


def _oid(dotted: str) -> bytes:
    from protocol.c509.der import oid_from_text

    return oid_from_text(dotted)


def ca(
    issuer: Ca | None,
    name: str,
    labels: tuple[str, ...] = (),
    *,
    prefixes: tuple[Prefix, ...] = (),
    not_before: int = NOW - YEAR,
) -> Ca:
    """Return a new CA."""
    signer = new_signer()
    extensions = ca_extensions(labels, prefixes)
    return Ca(signer, certify(issuer, name, signer, not_before=not_before, extensions=extensions))


def leaf_extensions(profile: Profile, key: Signer, issuer: Ca) -> tuple[c509.Extension, ...]:
    """Return the extensions that `profile` declares."""
    found = [c509.Extension(2, critical=True, value=int(profile.key_usage))]
    if profile.extended_key_usage:
        found.append(c509.Extension(8, critical=False, value=profile.extended_key_usage))
    if profile.key_identifier_bytes:
        found.append(c509.Extension(7, critical=False, value=issuer.key_id[:20]))
        found.append(c509.Extension(1, critical=False, value=hashlib.sha256(key.public_key).digest()[:20]))
    return tuple(found)


@dataclass
class Record:
    """One certificate as the authority remembers it."""

    certificate: c509.Certificate
    device: str
    label: str
    state: str = "pending"
    parent: "Record | None" = None

    @property
    def is_alive(self) -> bool:
        if self.state == "pending":
            return self.parent is None or self.parent.state == "current"
        return self.state == "current"


@dataclass(frozen=True)
class PublicOnly:
    """Stands for a signer whose private key is elsewhere, to certify its public key."""

    public_key: bytes
    algorithm: Any = None

    def sign(self, data: bytes) -> bytes:
        raise NotImplementedError


@dataclass
class World:
    """A scheme with one domain, and its owner's authority."""

    domain: Domain = Domain.METERING
    now: int = NOW
    records: dict[bytes, Record] = field(default_factory=dict)
    by_key: dict[bytes, Record] = field(default_factory=dict)
    answers: dict[bytes, Reply] = field(default_factory=dict)
    issued: Counter[bytes] = field(default_factory=Counter)
    """How many certificates were made for each public key."""
    asked: Counter[Operation] = field(default_factory=Counter)
    messages: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    """How often each (c5t, counter) came with a good signature and other bytes than before."""
    refused: Counter[ProblemKind] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        labels = tuple(p.label for p in PROFILES.values() if p.domain is self.domain)
        self.makes = tuple(label for label in labels if profile_of(label).tier is Tier.BOOTSTRAPPING)
        self.operates = tuple(label for label in labels if profile_of(label).is_over_the_air)
        begin = self.now - YEAR
        self.root = ca(None, "Root", not_before=begin)
        self.domain_root = ca(self.root, "TRL", labels, not_before=begin)
        self.maker = ca(self.domain_root, "Maker", self.makes, prefixes=OURS, not_before=begin)
        self.voucher_signer = new_signer()
        self.operator = ca(self.domain_root, "TRL-M", self.operates, not_before=begin)
        self.renew_registration(begin)
        self._bodies: set[bytes] = set()

    @property
    def authority(self) -> bytes:
        return self.operator.key_id

    @property
    def chain(self) -> bytes:
        return c509.encode_chain(
            [self.operator.certificate, self.domain_root.certificate, self.registration.certificate]
        )

    def renew_registration(self, not_before: int) -> None:
        """Give the authority a new registration key."""
        self.registration = self.registrar(self.operator, not_before)

    def registrar(self, issuer: Ca, not_before: int = NOW - YEAR, usages: tuple[int, ...] = (CMC_RA,)) -> Ca:
        """Return a registration key of `issuer`."""
        signer = new_signer()
        extensions = (
            c509.Extension(2, critical=True, value=1),
            c509.Extension(8, critical=False, value=usages),
        )
        return Ca(signer, certify(issuer, "RA", signer, not_before=not_before, extensions=extensions))

    # --- what the factory does -------------------------------------------------------------------------

    def bootstrap(self, device: str = METER) -> Credential:
        """Make a device, and enter it in the inventory."""
        signer = new_signer()
        profile = profile_of(self.makes[0])
        certificate = self.leaf(profile, device, signer, issuer=self.maker)
        self._remember(Record(certificate, device, profile.label, "current"))
        return Credential(signer, certificate.encoded)

    def voucher(self, device: str = METER, epoch: int = 0, authority: bytes | None = None) -> bytes:
        """Return the maker's voucher."""
        return Voucher.issue(
            self.voucher_signer, self._voucher_key_id(), device, authority or self.authority, epoch
        ).encoded

    def _voucher_key_id(self) -> bytes:
        return hashlib.sha256(self.voucher_spki()).digest()

    def voucher_spki(self) -> bytes:
        key = self.voucher_signer._public_key
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def anchor(self, device: str = METER) -> Anchor:
        """Return what a device believes from the start."""
        return Anchor(device, self.root.certificate, self.authority, 0)

    def identity_folder(self, folder: Path, device: str = METER, passphrase: bytes | None = None) -> Path:
        """Write an identity folder as the factory does."""
        folder.mkdir(parents=True)
        signer = self.bootstrap(device)
        assert isinstance(signer.signer, SoftwareSigner)
        save_private_key(folder / "bootstrap.key", signer.signer._key, passphrase)
        (folder / "bootstrap.c509").write_bytes(signer.certificate)
        (folder / "root.c509").write_bytes(self.root.certificate.encoded)
        (folder / "voucher-key.der").write_bytes(self.voucher_spki())
        (folder / "voucher.cose").write_bytes(self.voucher(device))
        identity = {
            "device": device,
            "label": self.makes[0],
            "domain": self.domain.value,
            "client_id": client_id(self.maker.key_id, device),
            "maker": self.maker.key_id.hex(),
        }
        (folder / "identity.json").write_text(json.dumps(identity))
        return folder

    # --- the authority ---------------------------------------------------------------------------------

    def leaf(
        self,
        profile: Profile,
        device: str,
        key: Signer,
        *,
        issuer: Ca | None = None,
        extensions: tuple[c509.Extension, ...] | None = None,
        form: Form | None = None,
        not_before: int | None = None,
        not_after: int | None = None,
    ) -> c509.Certificate:
        """Return a certificate as `profile` says, or with one thing wrong."""
        issuer = issuer or self.operator
        begin = self.now - profile.backdate if not_before is None else not_before
        end = None if profile.validity is None else begin + profile.validity
        return certify(
            issuer,
            device,
            key,
            form=int(form or profile.form),
            not_before=begin,
            not_after=end if not_after is None else not_after,
            extensions=leaf_extensions(profile, key, issuer) if extensions is None else extensions,
        )

    def answer(self, request: Outbound) -> Reply:
        """Answer one request, as the door of an authority does."""
        self.asked[request.op] += 1
        if request.op is Operation.CRTS:
            return Content(self.chain, Media.COSE_C509)
        memory = hashlib.sha256(f"{request.label}/{request.op}/".encode() + request.body).digest()
        if memory not in self.answers:
            reply = self._decide(request)
            if isinstance(reply, Problem):
                return reply
            self.answers[memory] = reply
        return self.answers[memory]

    def _decide(self, request: Outbound) -> Reply:
        try:
            signed = decode_request(request.op, request.body)
            signer = self._signer(signed)
        except (MalformedMessage, RequestRejected) as error:
            return Problem(getattr(error, "reason", error.kind), str(error))
        door = Door(self.authority, request.label, request.op, 0)
        outer = signed.signed
        key = signer.certificate.load_public_key()
        if not is_signature_valid(key, outer.header.algorithm, outer.signature, outer.signed_bytes(door.aad)):  # type: ignore[arg-type]
            return Problem(ProblemKind.BAD_SIGNATURE)
        try:
            self._check_signer(signer, profile_of(request.label), request.op)
            match signed.payload:
                case c509.CertificationRequest():
                    return self._issue(signed.payload, signer, request.label)
                case Confirmation():
                    self._confirm(signed.payload, signer, request.label)
                case Revocation():
                    self._revoke(signed.payload, signer, request.label)
        except RequestRejected as error:
            self.refused[error.reason] += 1
            return SignedRefusal(self.verdict(request, Problem.of(error)), Problem.of(error))
        return Content(self.verdict(request, Receipt(0)), Media.SIGN1)

    def verdict(self, request: Outbound, verdict: Receipt | Problem, by: Ca | None = None) -> bytes:
        """Sign a receipt or a refusal."""
        registration = by or self.registration
        return sign_verdict(
            verdict,
            registration.signer,
            thumbprint=c509.thumbprint(registration.certificate.encoded),
            request_digest=hashlib.sha256(request.body).digest(),
            authority=self.authority,
            label=request.label,
            op=request.op,
        )

    def _remember(self, record: Record) -> None:
        self.records[c509.thumbprint(record.certificate.encoded)] = record
        self.by_key[public_key_of(record.certificate)] = record

    def _signer(self, request: SignedRequest) -> Record:
        header = request.signed.header
        if header.certificate is not None:
            certificate = c509.decode_certificate(header.certificate)
            found = self.by_key.get(public_key_of(certificate))
            if found is not None and found.certificate.encoded == header.certificate:
                self.records[c509.thumbprint(header.certificate)] = found
                return found
            raise RequestRejected(ProblemKind.WRONG_SIGNER)
        found = self.records.get(header.thumbprint or b"")
        if found is None:
            raise RequestRejected(ProblemKind.UNKNOWN_SIGNER)
        return found

    def forget_thumbprints(self) -> None:
        """Forget by which thumbprints signers are known: the next request has to bring its certificate."""
        self.records.clear()

    def _check_signer(self, signer: Record, profile: Profile, op: Operation) -> None:
        if signer.label not in profile.signers_of(op):
            raise RequestRejected(ProblemKind.WRONG_SIGNER)
        if signer.state == "revoked":
            raise RequestRejected(ProblemKind.SIGNER_REVOKED)
        if not signer.is_alive:
            raise RequestRejected(ProblemKind.SIGNER_SUPERSEDED)

    def _issue(self, request: c509.CertificationRequest, signer: Record, label: str) -> Reply:
        if request.subject.cn != signer.device:
            raise RequestRejected(ProblemKind.WRONG_SUBJECT)
        key = request.public_key_bytes
        known = self.by_key.get(key)
        if known is None:
            if not is_signature_valid(request.load_public_key(), -7, request.signature, request.signed_bytes):  # type: ignore[arg-type]
                raise RequestRejected(ProblemKind.PROOF_FAILED)
            if signer.state == "pending":
                self._activate(signer)
            certificate = self.leaf(profile_of(label), signer.device, PublicOnly(key))
            self.issued[key] += 1
            for record in self._of(signer.device, label):
                if record.state == "pending":
                    record.state = "void"
            known = Record(certificate, signer.device, label, "pending", signer)
            self._remember(known)
        elif known.device != signer.device or known.label != label or not known.is_alive:
            raise RequestRejected(ProblemKind.KEY_USED)
        return Content(known.certificate.encoded, Media.C509_CERTIFICATE)

    def _of(self, device: str, label: str) -> list[Record]:
        return [r for r in self.by_key.values() if r.device == device and r.label == label]

    def _activate(self, record: Record) -> None:
        if record.state != "pending":
            return
        for other in self._of(record.device, record.label):
            if other is not record and other.is_alive:
                other.state = "superseded"
        record.state = "current"

    def _confirm(self, confirmation: Confirmation, signer: Record, label: str) -> None:
        for record in self._of(signer.device, label):
            digest = hashlib.sha256(record.certificate.encoded).digest()
            if digest == confirmation.certificate_digest and record.is_alive:
                if confirmation.status == INSTALLED:
                    return self._activate(record)
                if record.state == "pending":
                    record.state = "void"
                    return None
        raise RequestRejected(ProblemKind.NO_SUCH_CERTIFICATE)

    def _revoke(self, revocation: Revocation, signer: Record, label: str) -> None:
        for record in self._of(signer.device, label):
            if record.certificate.serial == revocation.serial and revocation.issuer == self.authority:
                record.state = "revoked"
                return
        raise RequestRejected(ProblemKind.NO_SUCH_CERTIFICATE)

    # --- what is said of certificates and messages -----------------------------------------------------

    def accepts(self, certificate: bytes) -> bool:
        """Return whether a request or message signed with this certificate would be accepted now."""
        record = self.by_key.get(public_key_of(c509.decode_certificate(certificate)))
        return record is not None and record.certificate.encoded == certificate and record.is_alive

    def by_key_of(self, certificate: bytes) -> Record:
        """Return what the authority remembers of a certificate."""
        return self.by_key[public_key_of(c509.decode_certificate(certificate))]

    def take_message(self, stream: str, body: bytes) -> Problem | None:
        """Verify one signed message."""
        try:
            message = decode_message(body)
            aad = stream_aad(stream)
        except EnrollmentError as error:
            return Problem(error.kind)
        signer = self.records.get(message.signed.header.thumbprint or b"")
        if signer is None:
            return Problem(ProblemKind.UNKNOWN_SIGNER)
        key = signer.certificate.load_public_key()
        signed = message.signed
        if not is_signature_valid(key, signed.header.algorithm, signed.signature, signed.signed_bytes(aad)):  # type: ignore[arg-type]
            return Problem(ProblemKind.BAD_SIGNATURE)
        if not signer.is_alive:
            self.refused[ProblemKind.SIGNER_SUPERSEDED] += 1
            return Problem(ProblemKind.SIGNER_SUPERSEDED)
        self._activate(signer)
        if body not in self._bodies:
            self._bodies.add(body)
            self.messages[(c509.thumbprint(signer.certificate.encoded), message.counter)] += 1
        return None


class LocalTransport:
    """A device's transport that ends at a world in the same process."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def exchange(self, request: Outbound) -> Reply:
        return self.world.answer(request)

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        return self.world.take_message(stream, body)
