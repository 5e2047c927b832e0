"""Revocation lists and request templates: what a device takes, and what it passes over."""

import datetime as dt
import math

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import (
    ExchangeTimeout,
    LocalProtocolError,
    MalformedMessage,
    ProblemKind,
    RequestRejected,
)
from protocol.exchange.device import State
from protocol.exchange.device_effects import Done, Fail, Learn, LearnRevocations, Seen, Send
from protocol.exchange.device_fetch import (
    Fetch,
    RevocationList,
    fetch_revocations,
    fetch_template,
    narrow,
)
from protocol.exchange.device_pace import Patience
from protocol.exchange.device_trust import Trust
from protocol.labels import Operation
from protocol.ports import Content, Media, Outbound, Pending
from protocol.problem import Problem
from protocol.profiles import profile_of
from protocol.revocation_list import MAX_NUMBER, Head, encode_list
from protocol.validity import Clock
from tests.world import NOW, Ca, World, ca

PATIENCE = Patience(answer=10, pause=4, longest_retry_after=50, give_up=1000)
SEEN_NUMBER = 7
DS = profile_of("meter-ds")


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def crl(
    issuer: Ca,
    *,
    number: int | None = SEEN_NUMBER,
    this_update: int = NOW - 60,
    next_update: int = NOW + 60,
    serials: tuple[int, ...] = (0x0123,),
    base: int | None = None,
    takes_off: bool = False,
    signer: Ca | None = None,
) -> bytes:
    """Return a revocation list, by default a good one."""
    name = x509.load_der_x509_certificate(issuer.certificate.to_der()).subject
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(dt.datetime.fromtimestamp(this_update, dt.UTC))
        .next_update(dt.datetime.fromtimestamp(next_update, dt.UTC))
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if base is not None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(base), critical=True)
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial)
        if takes_off:
            revoked = revoked.add_extension(x509.CRLReason(x509.ReasonFlags.remove_from_crl), critical=False)
        builder = builder.add_revoked_certificate(
            revoked.revocation_date(dt.datetime.fromtimestamp(NOW - 100, dt.UTC)).build()
        )
    key = (signer or issuer).signer._key  # type: ignore[attr-defined]
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def c509_crl(
    issuer: Ca,
    number: int = SEEN_NUMBER,
    *,
    base: int | None = None,
    this_update: int = NOW - 60,
    next_update: int = NOW + 60,
    serials: tuple[bytes, ...] = (b"\x01\x23",),
    signer: Ca | None = None,
) -> bytes:
    """Return a revocation list in C509 form."""
    head = Head(number, this_update, next_update, base)
    return encode_list(
        (signer or issuer).signer, issuer.certificate, head, [(serial, 1) for serial in serials]
    )


def revocations(
    world: World,
    *,
    knows: bool = True,
    clock: Clock | None = None,
    media: Media = Media.PKIX_CRL,
    known: RevocationList | None = None,
) -> Fetch[RevocationList]:
    clock = clock or Clock(NOW)
    trust = Trust(world.anchor(), Seen(), world.chain if knows else None, clock)
    return fetch_revocations(trust, "meter-ds", SEEN_NUMBER, clock, PATIENCE, media=media, known=known)


def test_a_good_list_is_read_and_remembered(world: World) -> None:
    machine = revocations(world)
    assert machine.start(0.0) == (Send(Outbound("meter-ds", Operation.CRL)),)
    effects = machine.receive(Content(crl(world.operator), Media.PKIX_CRL), 0.0, 0.0)
    assert effects == (LearnRevocations(SEEN_NUMBER, NOW - 60), Done())
    assert machine.result == RevocationList(SEEN_NUMBER, NOW - 60, NOW + 60, frozenset({b"\x01\x23"}))
    assert (machine.state, machine.deadline) == (State.DONE, math.inf)


def test_an_empty_list_is_a_list(world: World) -> None:
    machine = revocations(world)
    machine.start(0.0)
    machine.receive(Content(crl(world.operator, serials=()), Media.PKIX_CRL), 0.0, 0.0)
    assert machine.result is not None
    assert machine.result.serials == frozenset()


def test_a_device_that_knows_no_chain_fetches_it_first(world: World) -> None:
    machine = revocations(world, knows=False)
    assert machine.start(0.0) == (Send(Outbound("meter-ds", Operation.CRTS)),)
    assert machine.receive(Content(crl(world.operator), Media.PKIX_CRL), 0.0, 0.0) == ()
    assert machine.receive(Content(b"", Media.COSE_C509), 0.0, 0.0) == ()
    learn, send = machine.receive(Content(world.chain, Media.COSE_C509), 0.0, 0.0)
    assert isinstance(learn, Learn)
    assert send == Send(Outbound("meter-ds", Operation.CRL))


WRONG = {
    "older than one seen": lambda w: crl(w.operator, number=SEEN_NUMBER - 1),
    "without a number": lambda w: crl(w.operator, number=None),
    "with a number beyond all bounds": lambda w: crl(w.operator, number=MAX_NUMBER + 1),
    "over": lambda w: crl(w.operator, this_update=NOW - 60, next_update=NOW - 1),
    "from the future": lambda w: crl(w.operator, this_update=NOW + 10),
    "a delta to what is not known": lambda w: crl(w.operator, base=1),
    "of another authority": lambda w: crl(ca(w.domain_root, "TRL-M", w.operates)),
    "of the maker": lambda w: crl(w.maker),
    "signed by the registration key": lambda w: crl(w.operator, signer=w.registration),
    "cut off": lambda w: crl(w.operator)[:-1],
    "nothing": lambda w: b"",
    "a certificate": lambda w: w.operator.certificate.to_der(),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG.keys())
def test_a_list_that_is_not_ours_is_noise(world: World, make) -> None:  # type: ignore[no-untyped-def]
    machine = revocations(world)
    machine.start(0.0)
    assert machine.receive(Content(make(world), Media.PKIX_CRL), 0.0, 0.0) == ()
    assert (machine.state, machine.deadline) == (State.FETCHING, 10)
    assert machine.receive(Content(crl(world.operator), Media.PKIX_CRL), 0.0, 0.0)[-1] == Done()


@pytest.mark.parametrize(("media", "make"), [(Media.PKIX_CRL, crl), (Media.C509_CRL, c509_crl)])
def test_a_list_with_any_byte_changed_is_noise(world: World, media: Media, make) -> None:  # type: ignore[no-untyped-def]
    machine = revocations(world, media=media)
    machine.start(0.0)
    good = make(world.operator)
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 1 << position % 8
        assert machine.receive(Content(bytes(changed), media), 0.0, 0.0) == ()
    assert machine.receive(Content(good, media), 0.0, 0.0)[-1] == Done()


def test_the_c509_form_is_asked_for_by_name_and_read_the_same(world: World) -> None:
    machine = revocations(world, media=Media.C509_CRL)
    assert machine.start(0.0) == (Send(Outbound("meter-ds", Operation.CRL, accept=Media.C509_CRL)),)
    assert machine.receive(Content(crl(world.operator), Media.PKIX_CRL), 0.0, 0.0) == ()
    effects = machine.receive(Content(c509_crl(world.operator), Media.C509_CRL), 0.0, 0.0)
    assert effects == (LearnRevocations(SEEN_NUMBER, NOW - 60), Done())
    assert machine.result == RevocationList(SEEN_NUMBER, NOW - 60, NOW + 60, frozenset({b"\x01\x23"}))


WRONG_C509 = {
    "older than one seen": lambda w: c509_crl(w.operator, SEEN_NUMBER - 1),
    "over": lambda w: c509_crl(w.operator, next_update=NOW - 1),
    "from the future": lambda w: c509_crl(w.operator, this_update=NOW + 10),
    "a delta to what is not known": lambda w: c509_crl(w.operator, base=SEEN_NUMBER),
    "of another authority": lambda w: c509_crl(ca(w.domain_root, "TRL-M", w.operates)),
    "of the maker": lambda w: c509_crl(w.maker),
    "under another name": lambda w: c509_crl(w.maker, signer=w.operator),
    "signed by the registration key": lambda w: c509_crl(w.operator, signer=w.registration),
    "cut off": lambda w: c509_crl(w.operator)[:-1],
    "the same as DER": lambda w: crl(w.operator),
}


@pytest.mark.parametrize("make", WRONG_C509.values(), ids=WRONG_C509.keys())
def test_a_list_in_c509_form_that_is_not_ours_is_noise(world: World, make) -> None:  # type: ignore[no-untyped-def]
    machine = revocations(world, media=Media.C509_CRL)
    machine.start(0.0)
    assert machine.receive(Content(make(world), Media.C509_CRL), 0.0, 0.0) == ()
    assert machine.receive(Content(c509_crl(world.operator), Media.C509_CRL), 0.0, 0.0)[-1] == Done()


AT_HAND = RevocationList(SEEN_NUMBER + 1, NOW - 70, NOW + 50, frozenset({b"\x05"}))


def test_what_is_new_is_joined_to_the_list_at_hand(world: World) -> None:
    for media, made in (
        (
            Media.C509_CRL,
            c509_crl(world.operator, SEEN_NUMBER + 2, base=SEEN_NUMBER + 1, serials=(b"\x09", b"\x08")),
        ),
        (
            Media.PKIX_CRL,
            crl(world.operator, number=SEEN_NUMBER + 2, serials=(8, 9), base=SEEN_NUMBER + 1),
        ),
    ):
        machine = revocations(world, media=media, known=AT_HAND)
        (send,) = machine.start(0.0)
        assert isinstance(send, Send)
        assert send.request.base == SEEN_NUMBER + 1
        assert machine.receive(Content(made, media), 0.0, 0.0)[-1] == Done()
        assert machine.result == RevocationList(
            SEEN_NUMBER + 2, NOW - 60, NOW + 60, frozenset({b"\x05", b"\x08", b"\x09"})
        )


def test_a_delta_from_before_the_list_at_hand_fits_and_one_from_behind_it_does_not(world: World) -> None:
    for base, fits in ((SEEN_NUMBER - 3, True), (SEEN_NUMBER + 2, False)):
        machine = revocations(world, media=Media.C509_CRL, known=AT_HAND)
        machine.start(0.0)
        made = c509_crl(world.operator, SEEN_NUMBER + 3, base=base)
        assert (machine.receive(Content(made, Media.C509_CRL), 0.0, 0.0) != ()) is fits


def test_a_delta_below_the_list_at_hand_is_noise(world: World) -> None:
    machine = revocations(world, media=Media.C509_CRL, known=AT_HAND)
    machine.start(0.0)
    made = c509_crl(world.operator, SEEN_NUMBER, base=SEEN_NUMBER)
    assert machine.receive(Content(made, Media.C509_CRL), 0.0, 0.0) == ()


def test_the_whole_list_will_do_where_a_delta_was_asked_for(world: World) -> None:
    machine = revocations(world, media=Media.C509_CRL, known=AT_HAND)
    machine.start(0.0)
    machine.receive(Content(c509_crl(world.operator, SEEN_NUMBER + 9), Media.C509_CRL), 0.0, 0.0)
    assert machine.result is not None
    assert machine.result.serials == frozenset({b"\x01\x23"}), "what is no longer listed is gone"


def test_a_list_at_hand_that_is_older_than_one_seen_is_not_built_on(world: World) -> None:
    old = RevocationList(SEEN_NUMBER - 1, NOW - 70, NOW + 50, frozenset())
    assert revocations(world, known=old).start(0.0) == (Send(Outbound("meter-ds", Operation.CRL)),)


def test_an_entry_that_is_taken_off_in_der_leaves_the_list_at_hand(world: World) -> None:
    machine = revocations(world, known=AT_HAND)
    machine.start(0.0)
    made = crl(world.operator, number=SEEN_NUMBER + 2, serials=(5,), base=SEEN_NUMBER + 1, takes_off=True)
    machine.receive(Content(made, Media.PKIX_CRL), 0.0, 0.0)
    assert machine.result is not None
    assert machine.result.serials == frozenset()


def test_a_device_without_a_clock_refuses_what_ended_before_the_time_it_knows(world: World) -> None:
    machine = revocations(world, clock=Clock(None, floor=NOW))
    machine.start(0.0)
    old = crl(world.operator, this_update=NOW - 60, next_update=NOW - 1)
    assert machine.receive(Content(old, Media.PKIX_CRL), 0.0, 0.0) == ()
    assert machine.receive(Content(crl(world.operator), Media.PKIX_CRL), 0.0, 0.0)[-1] == Done()


def test_hints_put_off_the_next_attempt_and_patience_ends(world: World) -> None:
    machine = revocations(world)
    (send,) = machine.start(0.0)
    assert machine.receive(Problem(ProblemKind.NOT_FOUND, retry_after=1e6), 0.0, 0.0) == ()
    assert machine.receive(Pending(1.0), 0.0, 0.0) == ()
    assert machine.deadline == 50
    assert machine.timeout(50.0, 0.0) == (send,)
    assert machine.timeout(60.0, 0.5) == ()
    (fail,) = machine.timeout(1000.0, 0.0)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, ExchangeTimeout)
    assert machine.receive(Content(crl(world.operator), Media.PKIX_CRL), 0.0, 0.0) == ()


def test_out_of_order_is_our_own_bug(world: World) -> None:
    machine = revocations(world)
    with pytest.raises(LocalProtocolError):
        machine.timeout(0.0, 0.0)
    machine.start(0.0)
    with pytest.raises(LocalProtocolError):
        machine.start(0.0)


def test_a_template_is_asked_for_without_a_chain_and_may_narrow(world: World) -> None:
    trust = Trust(world.anchor(), Seen(), None, Clock(NOW))
    machine = fetch_template(trust, DS, Clock(NOW), PATIENCE)
    assert machine.start(0.0) == (Send(Outbound("meter-ds", Operation.ATT)),)
    assert machine.receive(Content(b"\x80", Media.C509_TEMPLATE), 0.0, 0.0) == ()
    template = c509.RequestTemplate(request_types=(2,), public_key_algorithms=(1, 2)).encode()
    assert machine.receive(Content(template, Media.C509_TEMPLATE), 0.0, 0.0) == (Done(),)
    assert machine.result == (Algorithm.ES256,), "a P-384 key is offered, but the profile has none"


@pytest.mark.parametrize(
    "template",
    [
        c509.RequestTemplate(request_types=(3,)),
        c509.RequestTemplate(signature_algorithms=(1,)),
        c509.RequestTemplate(public_key_algorithms=(2, 12)),
    ],
)
def test_a_template_that_leaves_nothing_is_refused(template: c509.RequestTemplate) -> None:
    with pytest.raises(RequestRejected):
        narrow(DS, template)


def test_an_empty_template_leaves_everything() -> None:
    assert narrow(DS, c509.RequestTemplate()) == DS.algorithms


def test_no_bytes_make_another_exception() -> None:
    for data in (b"", b"\x30", b"\x30\x80", b"\x30\x03\x02\x01\x01"):
        with pytest.raises(MalformedMessage):
            c509.decode_template(data)
