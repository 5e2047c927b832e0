"""What devices report against what the store expects: each difference found, named, and nothing invented."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from sqlalchemy.exc import OperationalError

from agents.authority import revoke
from agents.authority.differences import NEXT, Difference, Kind
from agents.authority.reconcile import MAX_AGE, expectations, reconcile
from agents.authority.reports import MAX_WAITING, Reports, open_reports
from agents.authority.schema import REPORTS
from agents.verifier import open_verifier
from protocol import c509
from protocol.exchange.request import RevocationReason
from protocol.held import STREAM, HeldCertificate, HeldReport, HeldState
from protocol.labels import Domain
from protocol.message import sign_message
from protocol.ports import InboundMessage
from protocol.problem import Problem
from tests.rig import NOW, Device, Rig, certificate_of, new_key, open_rig, rig_in

DAY = 24 * 3600
LATER = NOW + 3600


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def honest(rig: Rig, device: Device) -> HeldReport:
    """Return what the device reports if all is well."""
    expected = expectations(rig.directory)[device.domain]
    held = tuple(
        HeldCertificate(label, c509.thumbprint(certificate), HeldState.CURRENT)
        for label, (_, certificate) in device.credentials.items()
    )
    return HeldReport(expected.authority, device.epoch, (expected.root,), expected.chain, 0, held)


def holding(report: HeldReport, *held: HeldCertificate) -> HeldReport:
    return replace(report, certificates=(*report.certificates, *held))


def told(rig: Rig, device: Device, report: HeldReport, at: int = LATER) -> None:
    reports = Reports(rig.agent.store, lambda: float(at))
    reports.take(device.client_id, report.encode())
    anyio.run(reports.flush)


def found(rig: Rig, now: int = LATER) -> list[Difference]:
    differences = reconcile(rig.agent.store, expectations(rig.directory), now)
    return [one for several in differences for one in several]


def kinds(rig: Rig, now: int = LATER) -> list[Kind]:
    return [one.kind for one in found(rig, now)]


def with_label(rig: Rig, device: Device, label: str) -> Device:
    """Return the device with a current certificate under a label that its first one opens."""
    key = new_key()
    certificate = certificate_of(rig.ask(device.enroll(key, label=label)))
    rig.ask(device.confirm(certificate, label=label))
    return device.holding(label, key, certificate)


def test_a_device_that_holds_what_it_should_differs_in_nothing(rig: Rig) -> None:
    for domain in (Domain.METERING, Domain.ITS):
        device = rig.enrolled(domain)
        told(rig, device, honest(rig, device))
    assert found(rig) == []
    assert sum(1 for _ in reconcile(rig.agent.store, expectations(rig.directory), LATER)) == 2


def test_what_the_device_lost_is_missing(rig: Rig) -> None:
    device = with_label(rig, rig.enrolled(), "meter-ka")
    report = honest(rig, device)
    told(rig, device, replace(report, certificates=report.certificates[:-1]))
    (missing,) = found(rig)
    assert (missing.kind, missing.label, missing.device) == (Kind.MISSING, "meter-ka", device.name)
    assert missing.thumbprint == c509.thumbprint(device.credentials["meter-ka"][1])


def test_what_was_issued_after_the_report_is_not_missing(rig: Rig) -> None:
    device = rig.enrolled()
    report = honest(rig, device)
    told(rig, device, report, at=NOW)
    with_label(rig, device, "meter-ka")
    assert found(rig) == []


def test_what_nobody_here_issued_is_unknown(rig: Rig) -> None:
    device = rig.enrolled()
    strange = HeldCertificate("meter-tls", b"\x99" * 8, HeldState.CURRENT)
    told(rig, device, holding(honest(rig, device), strange))
    (unknown,) = found(rig)
    assert (unknown.kind, unknown.label, unknown.thumbprint) == (
        Kind.UNKNOWN,
        "meter-tls",
        strange.thumbprint,
    )


def test_a_certificate_of_another_device_is_told_with_whose_it_is(rig: Rig) -> None:
    device, other = rig.enrolled(), rig.enrolled()
    copied = HeldCertificate("meter-ds", c509.thumbprint(other.credentials["meter-ds"][1]), HeldState.CURRENT)
    told(rig, device, holding(honest(rig, device), copied))
    told(rig, other, honest(rig, other))
    (foreign,) = found(rig)
    assert (foreign.kind, foreign.device, foreign.detail) == (
        Kind.FOREIGN,
        device.name,
        f"issued to {other.name}",
    )


def test_what_was_revoked_and_is_still_there_is_told_once_the_device_could_know(rig: Rig) -> None:
    device = with_label(rig, rig.enrolled(), "meter-tls")
    report = honest(rig, device)
    told(rig, device, report, at=NOW)
    serial = c509.decode_certificate(device.credentials["meter-tls"][1]).serial
    revoke(rig.agent.store, serial.hex(), RevocationReason.KEY_COMPROMISE, NOW + 60)
    assert found(rig) == []  # the report is from before
    told(rig, device, report)
    (held,) = found(rig)
    assert (held.kind, held.label) == (Kind.REVOKED, "meter-tls")


def test_a_device_restored_from_a_copy_uses_what_was_superseded(rig: Rig) -> None:
    device = rig.enrolled()
    report = honest(rig, device)
    rig.enrolled(device=device)
    told(rig, device, report)
    (old,) = found(rig)
    assert (old.kind, old.label) == (Kind.OUTDATED, "meter-ds")


def test_a_rekey_on_its_way_is_no_difference(rig: Rig) -> None:
    device = rig.enrolled()
    certificate = certificate_of(rig.ask(device.enroll(new_key())))
    pending = HeldCertificate("meter-ds", c509.thumbprint(certificate), HeldState.PENDING)
    told(rig, device, honest(rig, device))
    assert found(rig) == []
    told(rig, device, holding(honest(rig, device), pending))
    assert found(rig) == []
    # A second attempt voids it: the device will be refused when it confirms, and discards it.
    rig.ask(device.enroll(new_key()))
    assert found(rig) == []


def test_what_has_ended_and_was_not_renewed_is_told(rig: Rig) -> None:
    device = rig.enrolled()
    after = NOW + 3 * 365 * DAY + DAY
    told(rig, device, honest(rig, device), at=after)
    assert kinds(rig, after) == [Kind.EXPIRED]


@pytest.mark.parametrize(
    "wrong",
    [
        {"authority": bytes(32)},
        {"epoch": 1},
        {"chain": (b"\x01" * 8, b"\x02" * 8)},
    ],
    ids=["voucher", "owner number", "chain"],
)
def test_who_believes_another_owner_is_told(rig: Rig, wrong: dict[str, object]) -> None:
    """After a change of supplier one meter in ten had the certificates of the one before."""
    device = rig.enrolled()
    told(rig, device, replace(honest(rig, device), **wrong))  # type: ignore[arg-type]
    assert kinds(rig) == [Kind.OWNER]


def test_an_old_chain_of_the_right_owner_is_another_matter(rig: Rig) -> None:
    device = rig.enrolled()
    report = honest(rig, device)
    told(rig, device, replace(report, chain=(*report.chain[:-1], b"\x07" * 8)))
    (old,) = found(rig)
    assert (old.kind, old.thumbprint) == (Kind.CHAIN, b"\x07" * 8)
    told(rig, device, replace(report, chain=()))  # it never asked
    assert found(rig) == []


def test_anchors_that_drifted_are_told(rig: Rig) -> None:
    device = rig.enrolled()
    report = honest(rig, device)
    told(rig, device, replace(report, anchors=(*report.anchors, b"\x05" * 8)))
    assert [(one.kind, one.thumbprint) for one in found(rig)] == [(Kind.ANCHOR, b"\x05" * 8)]
    told(rig, device, replace(report, anchors=()))
    assert [(one.kind, one.thumbprint) for one in found(rig)] == [(Kind.ANCHOR, report.anchors[0])]


def test_a_report_grows_old(rig: Rig) -> None:
    device = rig.enrolled()
    told(rig, device, honest(rig, device))
    assert kinds(rig, LATER + MAX_AGE) == []
    assert kinds(rig, LATER + MAX_AGE + 1) == [Kind.LATE]


def test_who_could_report_and_never_did_is_told_after_days(rig: Rig) -> None:
    rig.enrolled()
    rig.device()  # not enrolled: it has nothing to sign with
    assert kinds(rig, NOW + MAX_AGE) == []
    assert kinds(rig, NOW + MAX_AGE + 1) == [Kind.SILENT]


def test_the_worst_comes_first_and_each_has_a_next_step(rig: Rig) -> None:
    device = rig.enrolled()
    strange = HeldCertificate("x", b"\x99" * 8, HeldState.CURRENT)
    report = replace(honest(rig, device), authority=bytes(32), anchors=(), certificates=(strange,))
    told(rig, device, report)
    assert kinds(rig, LATER + 2 * MAX_AGE) == [
        Kind.OWNER, Kind.ANCHOR, Kind.UNKNOWN, Kind.MISSING, Kind.MISSING, Kind.LATE,
    ]  # fmt: skip
    assert set(NEXT) == set(Kind)


def test_many_devices_are_compared_page_by_page(rig: Rig) -> None:
    devices = [rig.device() for _ in range(7)]
    told(rig, devices[-1], replace(honest(rig, devices[-1]), epoch=9))
    from agents.authority import reconcile as module

    whole = found(rig)
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(module, "_DEVICES", module._DEVICES.limit(2))
        assert found(rig) == whole
    assert [one.kind for one in whole] == [Kind.OWNER]


# -- how reports come in ----------------------------------------------------------------------------


async def test_the_last_report_of_each_device_is_kept_and_nothing_else(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        one, other = rig.enrolled(), rig.enrolled()
        async with open_reports(rig.agent.store, rig.clock) as reports:
            reports.take(one.client_id, replace(honest(rig, one), epoch=3).encode())
            reports.take(one.client_id, honest(rig, one).encode())
            reports.take(other.client_id, honest(rig, other).encode())
            reports.take(other.client_id, b"no report")
            reports.take("nobody", honest(rig, one).encode())
            assert reports.malformed == 1
        with rig.agent.store.reading() as connection:
            kept = connection.execute(REPORTS.select()).all()
        assert [row.body for row in kept] == [honest(rig, one).encode(), honest(rig, other).encode()]


async def test_a_signed_report_goes_through_the_verifier_to_the_store(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        device = rig.enrolled()
        published: list[str] = []

        async def publish(stream: str, body: bytes) -> None:
            published.append(stream)

        async with (
            open_reports(rig.agent.store, rig.clock) as reports,
            open_verifier(
                rig.agent.signers,
                publish,
                clock=rig.clock,
                listeners={STREAM: lambda message: reports.take(message.client_id, message.body)},
            ) as verifier,
        ):
            signer, certificate = device.credentials["meter-ds"]
            wrong = replace(honest(rig, device), epoch=5).encode()
            for counter, (stream, body) in enumerate(((STREAM, wrong), ("readings", b"x"))):
                message = sign_message(
                    signer, c509.thumbprint(certificate), stream, body, counter=counter, time=None
                )
                inbound = InboundMessage(stream, message, "test:1", device.client_id)
                assert not isinstance(await verifier.verify(inbound), Problem)
                bad = replace(inbound, body=message[:-1] + bytes([message[-1] ^ 1]))
                assert isinstance(await verifier.verify(bad), Problem)
        assert published == [STREAM, "readings"]
        (difference,) = found(rig)
        assert difference.kind is Kind.OWNER


async def test_reports_wait_for_a_store_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_rig(tmp_path) as rig:
        device = rig.enrolled()
        reports = Reports(rig.agent.store, rig.clock)
        reports.take(device.client_id, honest(rig, device).encode())

        def fail(*_: object) -> None:
            raise OperationalError("", None, Exception("disk full"))

        monkeypatch.setattr(reports, "_keep", fail)
        await reports.flush()
        with rig.agent.store.reading() as connection:
            assert connection.execute(REPORTS.select()).first() is None
        monkeypatch.undo()
        await reports.flush()
        with rig.agent.store.reading() as connection:
            assert connection.execute(REPORTS.select()).first() is not None


def test_a_flood_of_reports_is_bounded(rig: Rig) -> None:
    reports = Reports(rig.agent.store, rig.clock)
    body = honest(rig, rig.device()).encode()
    for number in range(MAX_WAITING + 10):
        reports.take(f"c{number}", body)
    assert reports.dropped == 10
    reports.take("c0", body)  # who waits already may say something newer
    assert reports.dropped == 10
