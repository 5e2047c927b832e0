"""The device's machine for a key that the authority makes: every answer that it must not take."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agents.authority.intents import new_serial
from agents.authority.packing import Draft, make
from protocol import c509
from protocol.cose import decode_sign1
from protocol.errors import CertificateUnusable, ExchangeTimeout, LocalProtocolError, ProblemKind
from protocol.ev import CpsPackage, Edition, WrappedKey
from protocol.exchange.device import State
from protocol.exchange.device_ask import Waiting
from protocol.exchange.device_effects import (
    Discard,
    Done,
    Effects,
    Fail,
    InstallKey,
    Promote,
    Save,
    Send,
)
from protocol.exchange.request import Confirmation, KeyRequest, decode_request
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Media, Outbound, Pending, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import profile_of
from protocol.validity import Clock
from tests.contract_world import CPS, EMAID, NOW, QUICK, SECC, Scene, scene
from tests.delivery_bench import NONCE, Bench, sent


@pytest.fixture(scope="module", params=list(Edition), ids=["part 2", "part 20"])
def scene_(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("scene"), request.param) as found:
        yield found


@pytest.fixture
def bench(scene_: Scene) -> Bench:
    return Bench(scene_, scene_.car())


def test_the_request_is_stored_before_it_is_sent_and_names_the_car(bench: Bench) -> None:
    save, send = bench.machine.start(0.0)
    assert isinstance(save, Save)
    assert isinstance(send, Send)
    assert send.request == Outbound(bench.scene.label, Operation.SKG, save.request)
    asked = decode_request(Operation.SKG, save.request)
    assert asked.payload == KeyRequest(NONCE, bench.car.identity.device)
    assert asked.signed.header.thumbprint == c509.thumbprint(bench.car.signer.certificate)
    assert bench.machine.state is State.ENROLLING
    assert bench.machine.waiting is Waiting.ANSWER


def test_a_package_is_opened_stored_and_confirmed_with_the_key_in_it(bench: Bench) -> None:
    request = bench.start()
    installation = bench.made()
    install, send = bench.receive(bench.packed(request, installation))
    assert isinstance(install, InstallKey)
    certificate = c509.decode_certificate(install.certificate)
    assert certificate.to_der() == installation.contract_chain[0]
    assert certificate.subject.cn == EMAID
    assert install.key.public_key() == certificate.load_public_key()
    assert "key" not in repr(install).replace("InstallKey", "").lower()
    assert bench.machine.state is State.CONFIRMING
    assert isinstance(send, Send)
    confirmation = decode_request(Operation.CONF, send.request.body)
    assert confirmation.payload == Confirmation(hashlib.sha256(install.certificate).digest(), 0)
    assert confirmation.signed.header.thumbprint == c509.thumbprint(install.certificate)


def test_the_receipt_makes_it_current(scene_: Scene) -> None:
    car = scene_.car()
    scene_.grant(car)
    bench = Bench(scene_, car)
    request = bench.start()

    def through(outbound: Outbound) -> Reply:
        return scene_.ask(Inbound(outbound.label, outbound.op, outbound.body, "test:1"))

    confirm = sent(bench.receive(through(request)))
    promote, done = bench.receive(through(confirm))
    assert (promote, done) == (Promote(), Done())
    assert bench.machine.state is State.DONE


def test_without_a_chain_the_authority_is_asked_for_it_first(scene_: Scene) -> None:
    bench = Bench(scene_, scene_.car(), knows=False)
    assert bench.start().op is Operation.CRTS
    assert bench.machine.waiting is Waiting.CHAIN
    chain = Content(c509.encode_chain(bench.authority.chain), Media.COSE_C509)
    assert sent(bench.receive(chain)).op is Operation.SKG


def test_a_stored_request_is_sent_again_as_it_is(bench: Bench) -> None:
    saved = bench.start().body
    again = Bench(bench.scene, bench.car, request=saved)
    (send,) = again.machine.start(0.0)
    assert isinstance(send, Send)
    assert send.request.body == saved
    assert isinstance(again.receive(again.packed(send.request))[0], InstallKey)


def test_an_unknown_signer_is_shown_once_and_the_answer_is_to_that_request(bench: Bench) -> None:
    first = bench.start()
    save, send = bench.receive(Problem(ProblemKind.UNKNOWN_SIGNER))
    assert isinstance(save, Save)
    assert isinstance(send, Send)
    shown = decode_sign1(send.request.body)
    assert shown.header.certificate == bench.car.signer.certificate
    assert shown.payload == decode_sign1(first.body).payload
    assert bench.receive(bench.packed(first)) == ()
    assert isinstance(bench.receive(bench.packed(send.request))[0], InstallKey)


# --- what is nobody's word: the machine goes on waiting --------------------------------------------------


def other_car(bench: Bench, request: Outbound) -> Content:
    other = Bench(bench.scene, bench.scene.car(1))
    return other.packed(other.start())


def for_another_request(bench: Bench, request: Outbound) -> Content:
    return bench.packed(replace(request, body=request.body + b"\0"))


def recorded_before(bench: Bench, request: Outbound) -> Content:
    """An old answer to the same car, from the same service, for a request of another day."""
    earlier = Bench(bench.scene, bench.car)
    return earlier.packed(earlier.start())


def with_another_name(bench: Bench, request: Outbound) -> Content:
    """Signed, but the name beside the certificate is not its own (part 2), or another car's (part 20)."""
    name = "DE83D000000001" if bench.scene.edition is Edition.PART_2 else bench.scene.car(1).identity.device
    return bench.packed(request, replace(bench.made(), name=name))


def by_a_station(bench: Bench, request: Outbound) -> Content:
    station = bench.scene.vouching(SECC[bench.scene.edition], "DETRLS" + "0" * 32)
    return bench.packed(request, vouching=station)


def by_a_contract(bench: Bench, request: Outbound) -> Content:
    """The mobility operator's own certificates are under another root."""
    return bench.packed(request, vouching=bench.scene.vouching(bench.scene.label, EMAID))


def by_a_service_without_its_chain(bench: Bench, request: Outbound) -> Content:
    vouching = bench.scene.services[CPS[bench.scene.edition]]
    assert vouching is not None
    return bench.packed(request, vouching=replace(vouching, chain=vouching.chain[:1]))


def with_another_services_chain(bench: Bench, request: Outbound) -> Content:
    """Two certificates of the role, and the key of the other."""
    mine, other = (bench.scene.vouching(CPS[bench.scene.edition], name) for name in ("cps-1", "cps-2"))
    good = CpsPackage.decode(bench.packed(request, vouching=mine).body)
    return Content(replace(good, cps_chain=other.chain).encode(), Media.CONTRACT_PACKAGE)


def for_another_label(bench: Bench, request: Outbound) -> Content:
    return bench.packed(request, label="ev-something")


def by_another_authority(bench: Bench, request: Outbound) -> Content:
    """A contract from another CA under a provisioning service that vouches for both."""
    stranger = bench.scene.agent.authorities[profile_of(CPS[bench.scene.edition]).domain]
    draft = Draft(
        bench.profile,
        EMAID,
        bench.car.identity.device,
        new_serial(),
        NOW - 300,
        NOW + 3600,
        bench.car.signer.signer.public_key,
    )
    made = make(stranger, draft).installation
    return bench.packed(request, made)


def as_a_certificate(bench: Bench, request: Outbound) -> Content:
    return replace(bench.packed(request), media=Media.C509_CERTIFICATE)


def truncated(bench: Bench, request: Outbound) -> Content:
    return replace(bench.packed(request), body=bench.packed(request).body[:-1])


def garbage(bench: Bench, request: Outbound) -> Content:
    return Content(b"\x82\x40\x80", Media.CONTRACT_PACKAGE)


LIES: list[Callable[[Bench, Outbound], Content]] = [
    other_car,
    for_another_request,
    recorded_before,
    with_another_name,
    by_a_station,
    by_a_contract,
    by_a_service_without_its_chain,
    with_another_services_chain,
    for_another_label,
    by_another_authority,
    as_a_certificate,
    truncated,
    garbage,
]


@pytest.mark.parametrize("lie", LIES, ids=[lie.__name__ for lie in LIES])
def test_what_nobody_vouches_for_is_passed_over(
    bench: Bench, lie: Callable[[Bench, Outbound], Content]
) -> None:
    request = bench.start()
    deadline = bench.machine.deadline
    assert bench.receive(lie(bench, request)) == ()
    assert (bench.machine.state, bench.machine.deadline) == (State.ENROLLING, deadline)
    assert not bench.adopted
    assert isinstance(bench.receive(bench.packed(request))[0], InstallKey)


def test_no_flipped_bit_is_taken_for_an_answer(bench: Bench) -> None:
    request = bench.start()
    package = bench.packed(request).body
    step = max(1, len(package) // 150)  # every bit takes minutes; these are spread over everything
    for place in range(0, len(package), step):
        changed = bytearray(package)
        changed[place] ^= 1 << place % 8
        assert bench.receive(Content(bytes(changed), Media.CONTRACT_PACKAGE)) == (), place
    assert not bench.adopted


def test_a_service_whose_time_is_over_vouches_for_nothing(scene_: Scene) -> None:
    bench = Bench(scene_, scene_.car(), clock=Clock(NOW + 81 * 24 * 3600))
    assert bench.receive(bench.packed(bench.start())) == ()


def test_a_contract_that_begins_later_is_asked_for_again(scene_: Scene) -> None:
    early = Bench(scene_, scene_.car())
    request = early.start()
    draft = Draft(
        early.profile, EMAID, early.car.identity.device, new_serial(), NOW + 60, NOW + 3600,
        early.car.signer.signer.public_key,
    )  # fmt: skip
    later = make(early.authority, draft).installation
    assert early.receive(early.packed(request, later)) == ()


def test_hints_put_the_same_request_off(bench: Bench) -> None:
    request = bench.start()
    assert bench.receive(SignedRefusal(b"\x84", Problem(ProblemKind.NOT_ENTITLED))) == ()
    assert bench.receive(Pending(1.0)) == ()
    assert sent(bench.machine.timeout(bench.machine.deadline, 0.5)) == request


# --- what is the answer, and cannot be used -------------------------------------------------------------


def failed(effects: Effects) -> CertificateUnusable:
    discard, fail = effects
    assert discard == Discard()
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, CertificateUnusable)
    return fail.error


def test_a_key_for_another_car_ends_it(bench: Bench) -> None:
    request = bench.start()
    other = bench.scene.car(1).signer.signer.public_key
    effects = bench.receive(bench.packed(request, bench.made(recipient=other)))
    assert failed(effects).reason is ProblemKind.BAD_KEY
    assert bench.machine.state is State.FAILED
    assert not bench.adopted
    assert bench.receive(bench.packed(request)) == ()


def test_a_key_of_another_certificate_is_refused(bench: Bench) -> None:
    """The service signed a wrapped key beside a certificate that it does not belong to."""
    request = bench.start()
    one, other = bench.made(), bench.made()
    mixed = replace(one, wrapped=other.wrapped)
    assert failed(bench.receive(bench.packed(request, mixed))).reason is ProblemKind.BAD_KEY
    assert not bench.adopted


def test_a_changed_vector_under_a_good_signature_is_refused(bench: Bench) -> None:
    """CBC alone would install a key that no signature ever verifies with."""
    request = bench.start()
    made = bench.made()
    encrypted = bytearray(made.wrapped.encrypted)
    encrypted[3] ^= 1
    changed = replace(made, wrapped=WrappedKey(made.wrapped.dh_public_key, bytes(encrypted)))
    assert failed(bench.receive(bench.packed(request, changed))).reason is ProblemKind.BAD_KEY


def reported(bench: Bench, effects: Effects) -> int:
    """Return the status that the authority is told; nothing is installed."""
    assert [type(effect) for effect in effects] == [Send]
    payload = decode_request(Operation.CONF, sent(effects).body).payload
    assert isinstance(payload, Confirmation)
    assert bench.machine.state is State.REPORTING
    return payload.status


def test_a_contract_that_has_ended_already_is_reported_with_its_own_key(bench: Bench) -> None:
    request = bench.start()
    draft = Draft(
        bench.profile, EMAID, bench.car.identity.device, new_serial(), NOW - 7200, NOW - 3600,
        bench.car.signer.signer.public_key,
    )  # fmt: skip
    over = make(bench.authority, draft).installation
    assert reported(bench, bench.receive(bench.packed(request, over))) == ProblemKind.SIGNER_EXPIRED
    assert len(bench.adopted) == 1


def test_a_contract_without_its_chain_is_reported(bench: Bench) -> None:
    """The station would not be able to verify what the car shows it."""
    request = bench.start()
    made = bench.made()
    alone = replace(made, contract_chain=made.contract_chain[:1])
    assert reported(bench, bench.receive(bench.packed(request, alone))) == ProblemKind.WRONG_SIGNER


def test_a_renewal_is_for_the_same_contract(scene_: Scene) -> None:
    bench = Bench(scene_, scene_.car(), op=Operation.SREN, name="DE83DOTHER0000")
    effects = bench.receive(bench.packed(bench.start()))
    if scene_.edition is Edition.PART_2:
        assert effects == ()  # the package itself names another contract
    else:
        assert reported(bench, effects) == ProblemKind.WRONG_SUBJECT


def test_a_package_of_the_other_part_is_passed_over(tmp_path: Path) -> None:
    with scene(tmp_path, Edition.PART_2) as found:
        bench = Bench(found, found.car())
        request = bench.start()
        found.edition = Edition.PART_20
        other = Bench(found, found.car())
        assert bench.receive(other.packed(request, label=request.label)) == ()


# --- limits ---------------------------------------------------------------------------------------------


def test_it_gives_up_and_keeps_the_request(bench: Bench) -> None:
    bench.start()
    (fail,) = bench.machine.timeout(QUICK.give_up + 1, 0.5)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, ExchangeTimeout)
    assert bench.machine.state is State.FAILED
    with pytest.raises(LocalProtocolError, match="has no deadline"):
        bench.machine.timeout(QUICK.give_up + 2, 0.5)


def test_a_machine_starts_once(bench: Bench) -> None:
    bench.start()
    with pytest.raises(LocalProtocolError, match="cannot start"):
        bench.machine.start(0.0)


def test_before_the_start_nothing_is_heard(bench: Bench) -> None:
    assert bench.receive(Problem(ProblemKind.OVERLOADED)) == ()
    assert bench.machine.deadline == float("inf")
    assert bench.machine.waiting is None
