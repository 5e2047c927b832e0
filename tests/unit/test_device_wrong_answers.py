"""A stockpile of answers that are not ours: each is noise, and the right one is still welcome after it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol import c509
from protocol.errors import CertificateUnusable, ProblemKind
from protocol.exchange.device import Enrollment, Order, State
from protocol.exchange.device_effects import Discard, Fail, Install, Promote, Seen, Send
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import Confirmation, decode_request
from protocol.labels import Operation
from protocol.path import is_issued_by
from protocol.ports import Content, Media, Outbound, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import Form, KeyUsage, profile_of
from protocol.receipt import Receipt, sign_verdict
from protocol.signing import Signer
from protocol.validity import Clock
from tests.world import (
    METER,
    NOW,
    YEAR,
    Ca,
    World,
    ca,
    ca_extensions,
    certify,
    leaf_extensions,
    new_signer,
)

DS = profile_of("meter-ds")
OTHER = "54524C0000000002"


@pytest.fixture(scope="module")
def world() -> World:
    return World()


class Bench:
    """A machine that waits for a certificate, or for a receipt."""

    def __init__(self, world: World, chain: bytes | None = None, seen: Seen | None = None) -> None:
        self.world = world
        self.key = new_signer()
        order = Order(profile=DS, op=Operation.SEN, requester=world.bootstrap(), new_key=self.key)
        trust = Trust(world.anchor(), seen or Seen(), chain, Clock(NOW))
        self.machine = Enrollment(trust, order, Clock(NOW))
        *_, send = self.machine.start(0.0)
        assert isinstance(send, Send)
        self.request = send.request

    def confirming(self) -> "Bench":
        *_, send = self.machine.receive(self.world.answer(self.request), 0.0, 0.0)
        assert isinstance(send, Send)
        self.request = send.request
        return self

    def passes_over(self, body: bytes, media: Media = Media.C509_CERTIFICATE) -> None:
        state, deadline = self.machine.state, self.machine.deadline
        assert self.machine.receive(Content(body, media), 0.0, 0.5) == ()
        assert (self.machine.state, self.machine.deadline) == (state, deadline)

    def takes_the_right_certificate(self) -> None:
        effects = self.machine.receive(self.world.answer(self.request), 0.0, 0.5)
        assert isinstance(effects[0], Install)


def rogue(world: World) -> Ca:
    """Return another operator of the same domain, with the same name and the same rights."""
    return ca(world.domain_root, "TRL-M", world.operates)


def uncompressed(certificate: c509.Certificate) -> bytes:
    """Return the same certificate in another encoding: the signature is good, the thumbprint another."""
    return c509.from_der(certificate.to_der(), compress=False).encoded


def twin(world: World, certificate: c509.Certificate) -> bytes:
    """Return the same certificate with the other signature that anybody can compute."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signature = certificate.signature
    other = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    changed = certificate.with_signature(other)
    assert is_issued_by(changed, world.operator.certificate)
    return changed.encoded


def extra(world: World, key: Signer, *more: c509.Extension) -> tuple[c509.Extension, ...]:
    return (*leaf_extensions(DS, key, world.operator), *more)


def two_names(world: World, key: Signer) -> bytes:
    name = c509.Name(((1, METER), (1, OTHER)))
    extensions = leaf_extensions(DS, key, world.operator)
    return certify(
        world.operator, METER, key, not_before=NOW, not_after=NOW + YEAR, extensions=extensions, name=name
    ).encoded


Make = Callable[[World, Signer], bytes]
CERTIFICATES: dict[str, Make] = {
    "for another key": lambda w, k: w.leaf(DS, METER, new_signer()).encoded,
    "of another authority under the same root": lambda w, k: w.leaf(DS, METER, k, issuer=rogue(w)).encoded,
    "by the maker": lambda w, k: w.leaf(DS, METER, k, issuer=w.maker).encoded,
    "by the domain's root": lambda w, k: w.leaf(DS, METER, k, issuer=w.domain_root).encoded,
    "by the registration key": lambda w, k: w.leaf(DS, METER, k, issuer=w.registration).encoded,
    "by the device itself": lambda w, k: certify(None, METER, k, extensions=extra(w, k)).encoded,
    "with the authority's name on it, signed by another": lambda w, k: (
        w.leaf(DS, METER, k, issuer=Ca(new_signer(), w.operator.certificate)).encoded
    ),
    "that is not yet valid": lambda w, k: w.leaf(DS, METER, k, not_before=NOW + 1).encoded,
    "in an encoding that nobody else takes thumbprints of": lambda w, k: uncompressed(w.leaf(DS, METER, k)),
    "with the twin of its signature": lambda w, k: twin(w, w.leaf(DS, METER, k)),
    "followed by a byte": lambda w, k: w.leaf(DS, METER, k).encoded + b"\x00",
    "of no bytes": lambda w, k: b"",
    "in a chain": lambda w, k: c509.encode_chain([w.leaf(DS, METER, k)]),
    "as DER": lambda w, k: w.leaf(DS, METER, k).to_der(),
}
"""Not what the authority made for this key."""
UNUSABLE: dict[str, tuple[ProblemKind, Make]] = {
    "for another device": (ProblemKind.WRONG_SUBJECT, lambda w, k: w.leaf(DS, OTHER, k).encoded),
    "for nobody": (ProblemKind.WRONG_SUBJECT, lambda w, k: w.leaf(DS, "", k).encoded),
    "for two": (ProblemKind.WRONG_SUBJECT, two_names),
    "of label meter-tls": (
        ProblemKind.WRONG_SIGNER,
        lambda w, k: w.leaf(profile_of("meter-tls"), METER, k).encoded,
    ),
    "of label meter-ka": (
        ProblemKind.WRONG_SIGNER,
        lambda w, k: w.leaf(profile_of("meter-ka"), METER, k).encoded,
    ),
    "of another form": (
        ProblemKind.WRONG_SIGNER,
        lambda w, k: w.leaf(DS, METER, k, form=Form.NATIVE).encoded,
    ),
    "that is a CA's": (
        ProblemKind.WRONG_SIGNER,
        lambda w, k: (
            w.leaf(DS, METER, k, extensions=extra(w, k, c509.Extension(4, critical=True, value=-1))).encoded
        ),
    ),
    "that may sign certificates": (
        ProblemKind.WRONG_SIGNER,
        lambda w, k: (
            w.leaf(
                replace(DS, key_usage=KeyUsage.DIGITAL_SIGNATURE | KeyUsage.KEY_CERT_SIGN), METER, k
            ).encoded
        ),
    ),
    "without usage": (ProblemKind.WRONG_SIGNER, lambda w, k: w.leaf(DS, METER, k, extensions=()).encoded),
    "of a registration key": (
        ProblemKind.WRONG_SIGNER,
        lambda w, k: (
            w.leaf(
                DS, METER, k, extensions=extra(w, k, c509.Extension(8, critical=False, value=(16,)))
            ).encoded
        ),
    ),
    "that has expired": (
        ProblemKind.SIGNER_EXPIRED,
        lambda w, k: w.leaf(DS, METER, k, not_before=NOW - YEAR, not_after=NOW - 1).encoded,
    ),
}
"""What it should not have made."""


@pytest.mark.parametrize("make", CERTIFICATES.values(), ids=CERTIFICATES.keys())
def test_a_certificate_that_is_not_ours_is_noise(world: World, make: Make) -> None:
    bench = Bench(world, world.chain)
    bench.passes_over(make(world, bench.key))
    bench.takes_the_right_certificate()


@pytest.mark.parametrize(("kind", "make"), UNUSABLE.values(), ids=UNUSABLE.keys())
@pytest.mark.parametrize("is_refused", [False, True], ids=["taken", "refused"])
def test_the_authoritys_own_work_that_cannot_be_used_is_reported_and_its_key_given_up(
    world: World, kind: ProblemKind, make: Make, is_refused: bool
) -> None:
    bench = Bench(world, world.chain)
    certificate = make(world, bench.key)
    (report,) = bench.machine.receive(Content(certificate, Media.C509_CERTIFICATE), 0.0, 0.5)
    assert isinstance(report, Send)
    assert (report.request.op, bench.machine.state) == (Operation.CONF, State.REPORTING)
    said = decode_request(Operation.CONF, report.request.body)
    assert said.payload == Confirmation(hashlib.sha256(certificate).digest(), kind)
    assert said.signed.header.thumbprint == c509.thumbprint(certificate)
    # The certificate again, or a right one after all: the key is given up.
    bench.passes_over(certificate)
    bench.passes_over(world.leaf(DS, METER, bench.key).encoded)
    if is_refused:
        problem = Problem(ProblemKind.NO_SUCH_CERTIFICATE)
        answer: Reply = SignedRefusal(world.verdict(report.request, problem), problem)
    else:
        answer = Content(receipt(world, report.request), Media.SIGN1)
    discard, fail = bench.machine.receive(answer, 0.0, 0.5)
    assert discard == Discard()
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, CertificateUnusable)
    assert fail.error.reason is kind


def test_a_report_is_repeated_until_it_is_heard(world: World) -> None:
    bench = Bench(world, world.chain)
    certificate = world.leaf(DS, OTHER, bench.key).encoded
    effects = bench.machine.receive(Content(certificate, Media.C509_CERTIFICATE), 0.0, 0.5)
    assert bench.machine.timeout(bench.machine.deadline, 0.5) == ()
    assert bench.machine.timeout(bench.machine.deadline, 0.5) == effects


def test_the_stockpile_is_wrong_in_one_thing_only(world: World) -> None:
    bench = Bench(world, world.chain)
    right = world.leaf(DS, METER, bench.key).encoded
    assert isinstance(bench.machine.receive(Content(right, Media.C509_CERTIFICATE), 0, 0)[0], Install)


def test_a_certificate_with_any_byte_changed_or_cut_off_is_noise(world: World) -> None:
    bench = Bench(world, world.chain)
    right = world.leaf(DS, METER, bench.key).encoded
    for position in range(len(right)):
        flipped = bytearray(right)
        flipped[position] ^= 1 << position % 8
        bench.passes_over(bytes(flipped))
        bench.passes_over(right[:position])
    bench.takes_the_right_certificate()


@pytest.mark.parametrize("media", [media for media in Media if media is not Media.C509_CERTIFICATE])
def test_a_certificate_under_another_media_type_is_noise(world: World, media: Media) -> None:
    bench = Bench(world, world.chain)
    bench.passes_over(world.leaf(DS, METER, bench.key).encoded, media)


Verdict = Callable[[World, Outbound], bytes]


def receipt(
    world: World, request: Outbound, *, by: Ca | None = None, authority: bytes | None = None
) -> bytes:
    registration = by or world.registration
    return sign_verdict(
        Receipt(0),
        registration.signer,
        thumbprint=c509.thumbprint(world.registration.certificate.encoded),
        request_digest=hashlib.sha256(request.body).digest(),
        authority=authority or world.authority,
        label=request.label,
        op=request.op,
    )


RECEIPTS: dict[str, Verdict] = {
    "about another request": lambda w, r: receipt(w, replace(r, body=r.body + b"\x00")),
    "about another operation": lambda w, r: receipt(w, replace(r, op=Operation.REV)),
    "about another label": lambda w, r: receipt(w, replace(r, label="meter-tls")),
    "of another authority": lambda w, r: receipt(w, r, authority=bytes(32)),
    "by the CA's own key": lambda w, r: receipt(w, r, by=w.operator),
    "by another key with our registration's thumbprint": lambda w, r: receipt(
        w, r, by=w.registrar(w.operator)
    ),
}


@pytest.mark.parametrize("make", RECEIPTS.values(), ids=RECEIPTS.keys())
def test_a_receipt_that_is_not_ours_is_noise(world: World, make: Verdict) -> None:
    bench = Bench(world, world.chain).confirming()
    bench.passes_over(make(world, bench.request), Media.SIGN1)
    right = receipt(world, bench.request)
    assert bench.machine.receive(Content(right, Media.SIGN1), 0.0, 0.0)[0] == Promote()


def test_a_refusal_that_is_not_ours_is_noise(world: World) -> None:
    bench = Bench(world, world.chain)
    for request in (
        replace(bench.request, body=bench.request.body + b"\x00"),
        replace(bench.request, op=Operation.SREN),
        replace(bench.request, label="meter-ka"),
    ):
        problem = Problem(ProblemKind.NOT_ENTITLED)
        refusal = SignedRefusal(world.verdict(request, problem), problem)
        assert bench.machine.receive(refusal, 0.0, 0.0) == ()
    bench.takes_the_right_certificate()


def test_a_receipt_with_any_byte_changed_ends_nothing(world: World) -> None:
    bench = Bench(world, world.chain).confirming()
    right = receipt(world, bench.request)
    for position in range(len(right)):
        flipped = bytearray(right)
        flipped[position] ^= 1 << position % 8
        effects = bench.machine.receive(Content(bytes(flipped), Media.SIGN1), 0.0, 0.0)
        # A changed thumbprint looks like a registration key that is not known yet.
        assert effects in ((), (Send(Outbound("meter-ds", Operation.CRTS)),))
        if effects:
            bench.machine.receive(Content(world.chain, Media.COSE_C509), 0.0, 0.0)
        assert bench.machine.state is State.CONFIRMING
    assert bench.machine.receive(Content(right, Media.SIGN1), 0.0, 0.0)[0] == Promote()


def rsa_chain(world: World) -> bytes:
    """Return a chain whose CA has an RSA key and claims to have signed with ECDSA."""
    key = rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    middle = replace_key(world.domain_root.certificate, key, 0)
    return c509.encode_chain([world.operator.certificate, middle, world.registration.certificate])


def replace_key(certificate: c509.Certificate, key: bytes, algorithm: int) -> c509.Certificate:
    tbs = c509.TbsCertificate(
        3, certificate.serial, 0, certificate.issuer, certificate.not_before, None, certificate.subject,
        algorithm, key, certificate.extensions,
    )  # fmt: skip
    return tbs.with_signature(certificate.signature)


def chain_of(*certificates: Ca | c509.Certificate) -> bytes:
    return c509.encode_chain([c.certificate if isinstance(c, Ca) else c for c in certificates])


def foreign(world: World) -> bytes:
    root = ca(None, "Root")
    middle = ca(root, "TRL", world.operates)
    operator = Ca(world.operator.signer, certify_ca(middle, "TRL-M", world.operator.signer, world.operates))
    return chain_of(operator, middle, world.registrar(operator))


def certify_ca(
    issuer: Ca, name: str, key: Signer, labels: tuple[str, ...], **changes: int
) -> c509.Certificate:
    return certify(issuer, name, key, extensions=ca_extensions(labels), **changes)  # type: ignore[arg-type]


def again(world: World, labels: tuple[str, ...], **changes: int) -> Ca:
    """Return our operator, certified anew with one thing wrong."""
    signer = world.operator.signer
    return Ca(signer, certify_ca(world.domain_root, "TRL-M", signer, labels, **changes))


CHAINS: dict[str, Callable[[World], bytes]] = {
    "under another root": foreign,
    "of another authority under our root": lambda w: chain_of(rogue(w), w.domain_root, w.registrar(rogue(w))),
    "of another authority with our registration": lambda w: chain_of(rogue(w), w.domain_root, w.registration),
    "with a gap": lambda w: chain_of(w.operator, w.registration),
    "upside down": lambda w: chain_of(w.domain_root, w.operator, w.registration),
    "that has expired": lambda w: chain_of(again(w, w.operates, not_after=NOW - 1), w.domain_root),
    "that is not yet valid": lambda w: chain_of(again(w, w.operates, not_before=NOW + 1), w.domain_root),
    "with somebody else's registration key": lambda w: chain_of(
        w.operator, w.domain_root, w.registrar(w.domain_root)
    ),
    "whose registration key is no registration's": lambda w: chain_of(
        w.operator, w.domain_root, w.registrar(w.operator, usages=(1,))
    ),
    "whose registration key has another usage than said": lambda w: chain_of(
        w.operator, w.domain_root, w.leaf(DS, METER, new_signer())
    ),
    "through an RSA key": rsa_chain,
    "that is a certificate": lambda w: w.operator.certificate.encoded,
    "of no bytes": lambda w: b"",
}


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
def test_a_chain_that_is_not_ours_is_noise(world: World, make: Callable[[World], bytes]) -> None:
    bench = Bench(world)
    bench.passes_over(make(world), Media.COSE_C509)
    effects = bench.machine.receive(Content(world.chain, Media.COSE_C509), 0.0, 0.0)
    assert len(effects) == 3


@pytest.mark.parametrize(
    "seen", [Seen(chain=NOW - YEAR + 1), Seen(registration=NOW - YEAR + 1)], ids=["CAs", "registration"]
)
def test_an_older_chain_than_was_seen_is_noise(world: World, seen: Seen) -> None:
    bench = Bench(world, seen=seen)
    bench.passes_over(world.chain, Media.COSE_C509)


def test_a_chain_without_a_registration_key_does_not_make_an_old_one_acceptable(world: World) -> None:
    trust = Trust(world.anchor(), Seen(registration=NOW), None, Clock(NOW))
    learned = trust.learn(chain_of(world.operator, world.domain_root), Clock(NOW))
    assert learned.seen.registration == NOW
