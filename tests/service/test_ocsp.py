"""The OCSP responder: what it says of whom, how soon it says otherwise, and how much it bears."""

import base64
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from agents.authority import BadDirectory, Layout, Store, revoke
from agents.ocsp import Responder, open_responder
from agents.ocsp import responder as module
from agents.ocsp.credential import LIFE as CREDENTIAL_LIFE
from agents.ocsp.credential import credential_of
from agents.ocsp.http import HttpRequest, HttpResponse
from agents.ocsp.question import NotAQuestion, read_question
from agents.ocsp.responder import LIFE, REFRESH
from agents.ocsp.site import Site
from protocol import c509
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain, Operation
from tests.rig import NOW, PASSPHRASE, Device, Rig, certificate_of, new_key, open_rig

SHA1 = hashes.SHA1()
GOOD, REVOKED, UNKNOWN = (
    ocsp.OCSPCertStatus.GOOD,
    ocsp.OCSPCertStatus.REVOKED,
    ocsp.OCSPCertStatus.UNKNOWN,
)


def ca_of(rig: Rig, domain: Domain = Domain.METERING) -> x509.Certificate:
    return x509.load_der_x509_certificate(rig.agent.authorities[domain].issuer.certificate.to_der())


def held(device: Device) -> int:
    return c509.decode_certificate(device.credentials[device.label][1]).serial_number


def question(
    issuer: x509.Certificate, serial: int, algorithm: hashes.HashAlgorithm = SHA1, *, nonce: bool = False
) -> bytes:
    """Return a request about a certificate of `issuer`."""
    der = issuer.subject.public_bytes()
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    digests = []
    for data in (der, point):
        digest = hashes.Hash(algorithm)
        digest.update(data)
        digests.append(digest.finalize())
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(digests[0], digests[1], serial, algorithm)
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(b"0123456789abcdef"), critical=False)
    return builder.build().public_bytes(Encoding.DER)


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[tuple[Rig, Responder]]:
    async with (
        open_rig(tmp_path) as rig,
        open_responder(rig.agent, rig.directory, PASSPHRASE, clock=rig.clock) as responder,
    ):
        yield rig, responder


async def ask(responder: Responder, request: bytes) -> ocsp.OCSPResponse:
    return ocsp.load_der_ocsp_response((await responder.answer(request)).der)


async def status(rig: Rig, responder: Responder, serial: int) -> ocsp.OCSPCertStatus:
    """Return what is said about a meter's certificate, its signature verified."""
    found = await ask(responder, question(ca_of(rig), serial))
    assert found.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    check_signature(ca_of(rig), found)
    return found.certificate_status


def check_signature(ca: x509.Certificate, found: ocsp.OCSPResponse) -> None:
    """Check the delegation and the signature as RFC 6960 §4.2.2.2 says."""
    (signer,) = found.certificates
    signer.verify_directly_issued_by(ca)
    usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    signer.extensions.get_extension_for_class(x509.OCSPNoCheck)
    key = signer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert found.signature_hash_algorithm is not None
    key.verify(found.signature, found.tbs_response_bytes, ec.ECDSA(found.signature_hash_algorithm))


def forget(responder: Responder) -> None:
    """Let the responder look at the store again at once."""
    responder._looked_at = -1e9


@pytest.mark.parametrize("algorithm", [SHA1, hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
async def test_good_revoked_and_unknown_are_told_apart(
    tmp_path: Path, algorithm: hashes.HashAlgorithm
) -> None:
    async with opened(tmp_path) as (rig, responder):
        good, bad = rig.enrolled(), rig.enrolled()
        revoke(rig.agent.store, bad.name, RevocationReason.KEY_COMPROMISE, NOW)
        for serial, expected in ((held(good), GOOD), (held(bad), REVOKED), (5, UNKNOWN)):
            found = await ask(responder, question(ca_of(rig), serial, algorithm))
            check_signature(ca_of(rig), found)
            assert (found.certificate_status, found.serial_number) == (expected, serial)
            assert found.this_update_utc == dt.datetime.fromtimestamp(NOW, dt.UTC)
            assert found.next_update_utc is not None
            if expected is REVOKED:
                assert found.revocation_reason is x509.ReasonFlags.key_compromise
                assert found.revocation_time_utc == dt.datetime.fromtimestamp(NOW, dt.UTC)


async def test_what_is_on_the_list_is_revoked_here_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        device = rig.enrolled()
        old, key = held(device), new_key()
        new = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
        assert await status(rig, responder, c509.decode_certificate(new).serial_number) is GOOD, "pending"
        rig.ask(device.holding("meter-ds", key, new).confirm(new))
        forget(responder)
        found = await ask(responder, question(ca_of(rig), old))
        assert found.certificate_status is REVOKED
        assert found.revocation_reason is x509.ReasonFlags.superseded


async def test_the_authoritys_own_certificates_are_good(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        registration = rig.agent.authorities[Domain.METERING].registrar.certificate
        assert await status(rig, responder, registration.serial_number) is GOOD
        found = await ask(responder, question(ca_of(rig), 5))
        assert await status(rig, responder, found.certificates[0].serial_number) is GOOD


async def test_each_authority_answers_for_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        vehicle = rig.enrolled(Domain.ITS)
        assert await status(rig, responder, held(vehicle)) is UNKNOWN, "asked of the metering CA"
        found = await ask(responder, question(ca_of(rig, Domain.ITS), held(vehicle)))
        check_signature(ca_of(rig, Domain.ITS), found)
        assert found.certificate_status is GOOD


async def test_another_issuer_is_unauthorized_and_junk_is_malformed(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        root = x509.load_der_x509_certificate(rig.agent.authorities[Domain.METERING].root.to_der())
        found = await ask(responder, question(root, 5))
        assert found.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED
        for junk in (b"", b"\x30\x00", b"x" * 5000, question(ca_of(rig), 5)[:-1], bytes(80)):
            found = await ask(responder, junk)
            assert found.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
        assert responder.made == 0, "nothing was signed"


async def test_an_answer_is_made_once_and_a_nonce_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        serial = held(rig.enrolled())
        first = await responder.answer(question(ca_of(rig), serial))
        for nonce in (True, False):
            assert await responder.answer(question(ca_of(rig), serial, nonce=nonce)) is first
        assert responder.made == 1


async def test_a_revocation_by_another_process_is_told_within_a_second(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        device, other = rig.enrolled(), rig.enrolled()
        assert await status(rig, responder, held(device)) is GOOD
        untouched = await responder.answer(question(ca_of(rig), held(other)))
        store = Store(rig.directory / "store.sqlite")
        revoke(store, device.name, RevocationReason.UNSPECIFIED, NOW)
        store.close()
        with anyio.fail_after(1):
            while await status(rig, responder, held(device)) is GOOD:  # noqa: ASYNC110 (it has no event)
                await anyio.sleep(0.02)
        assert await responder.answer(question(ca_of(rig), held(other))) is untouched, "still good, and kept"


async def test_what_ended_is_made_anew_before_anybody_asks(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        device = rig.enrolled()
        assert await status(rig, responder, held(device)) is GOOD
        revoke(rig.agent.store, device.name, RevocationReason.UNSPECIFIED, NOW)
        forget(responder)
        await responder._look()
        made = responder.made
        assert await status(rig, responder, held(device)) is REVOKED
        assert responder.made == made


async def test_an_answer_that_was_read_before_a_revocation_is_not_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        device = rig.enrolled()
        key = rig.agent.authorities[Domain.METERING].key_id, held(device).to_bytes(8, "big"), "sha1"
        (stale,) = responder._make([key])
        revoke(rig.agent.store, device.name, RevocationReason.UNSPECIFIED, NOW)
        forget(responder)
        await responder._look()
        responder._keep(key, stale)
        assert await status(rig, responder, held(device)) is REVOKED


async def test_wanted_answers_are_renewed_and_the_others_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        wanted, other = held(rig.enrolled()), held(rig.enrolled())
        for serial in (wanted, wanted, other):
            await status(rig, responder, serial)
        made = responder.made
        rig.clock.now += REFRESH
        await responder._make_anew(responder._ageing())
        assert (responder.made, len(responder._kept)) == (made + 1, 1)
        found = await ask(responder, question(ca_of(rig), wanted))
        assert found.this_update_utc == dt.datetime.fromtimestamp(NOW + REFRESH, dt.UTC)
        rig.clock.now += LIFE
        found = await ask(responder, question(ca_of(rig), wanted))
        assert found.this_update_utc == dt.datetime.fromtimestamp(rig.clock.now, dt.UTC), "never an old one"


async def test_no_more_is_kept_or_in_work_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as (rig, responder):
        monkeypatch.setattr(module, "MAX_KEPT", 2)
        monkeypatch.setattr(module, "MAX_IN_WORK", 1)
        serials = [held(rig.enrolled()) for _ in range(3)]
        for serial in serials:
            assert await status(rig, responder, serial) is GOOD
        assert len(responder._kept) == 2
        for number in range(100):
            assert await status(rig, responder, 2**60 + number) is UNKNOWN
        assert len(responder._kept) == 2, "what is unknown pushes nothing out"
        outcomes: list[ocsp.OCSPResponseStatus] = []

        async def one(serial: int) -> None:
            found = await ask(responder, question(ca_of(rig), serial))
            outcomes.append(found.response_status)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(one, 2**60 + number)
        assert set(outcomes) == {
            ocsp.OCSPResponseStatus.SUCCESSFUL,
            ocsp.OCSPResponseStatus.TRY_LATER,
        }


async def test_the_signing_key_is_kept_and_replaced_in_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        layout, authority = Layout(rig.directory), rig.agent.authorities[Domain.METERING]
        first, is_new = credential_of(layout, authority, PASSPHRASE, NOW)
        assert not is_new
        path = layout.operator(Domain.METERING) / "ocsp.key"
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"ENCRYPTED" in path.read_bytes()
        with pytest.raises(ValueError, match="passphrase"):
            credential_of(layout, authority, b"another", NOW)
        # While it runs: the same key, another certificate. At the next start: another key.
        rig.clock.now = NOW + CREDENTIAL_LIFE * 3 // 4
        found = await ask(responder, question(ca_of(rig), 5))
        check_signature(ca_of(rig), found)
        assert found.certificates[0].serial_number != first.certificate.serial_number
        later = NOW + 2 * CREDENTIAL_LIFE
        second, is_new = credential_of(layout, authority, PASSPHRASE, later)
        assert is_new
        assert second.key.public_key() != first.key.public_key()
        events = [entry.detail for entry in rig.events() if "OCSP" in entry.detail]
        assert events == [f"{domain} OCSP signing certificate" for domain in ("metering", "its", "metering")]


async def test_a_wrong_passphrase_is_said_in_words(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, _):
        with pytest.raises(BadDirectory, match="OCSP responder"):
            async with open_responder(rig.agent, rig.directory, b"another", clock=rig.clock):
                pass


@given(st.binary(max_size=120), st.integers(0, 200), st.integers(0, 255))
def test_any_bytes_are_a_question_or_none(junk: bytes, position: int, byte: int) -> None:
    good = bytearray(
        ocsp.OCSPRequestBuilder()
        .add_certificate_by_hash(bytes(20), bytes(20), 5, SHA1)
        .build()
        .public_bytes(Encoding.DER)
    )
    good[position % len(good)] = byte
    for data in (junk, bytes(good)):
        with suppress(NotAQuestion):
            assert 0 < len(read_question(data).serial) <= 20


class Browser:
    """Asks a site without a socket."""

    def __init__(self, rig: Rig, responder: Responder) -> None:
        names = {"some-ca": rig.agent.authorities[Domain.METERING]}
        self._site = Site(responder, rig.agent, names, rig.clock)

    async def get(self, path: str, **headers: str) -> HttpResponse:
        sent = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        return await self._site.handle(HttpRequest(b"GET", path.encode(), sent, b"", "http:test:1"))

    async def post(self, path: str, body: bytes, kind: str = "application/ocsp-request") -> HttpResponse:
        headers = {b"content-type": kind.encode()}
        return await self._site.handle(HttpRequest(b"POST", path.encode(), headers, body, "http:test:1"))


async def test_get_and_post_give_the_same_answer_with_its_age(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        browser = Browser(rig, responder)
        request = question(ca_of(rig), held(rig.enrolled()))
        text = base64.b64encode(request).decode()
        posted = await browser.post("/ocsp", request)
        for path in (f"/ocsp/{quote(text, safe='')}", f"/{quote(text, safe='')}", f"/ocsp/{text}"):
            assert (await browser.get(path)) == posted
        assert (await browser.post("/", request)) == posted
        headers = dict(posted.headers)
        assert headers["Content-Type"] == "application/ocsp-response"
        assert headers["Cache-Control"] == f"max-age={LIFE}, public, no-transform, must-revalidate"
        assert headers["Last-Modified"].endswith("GMT")
        failing = await browser.post("/ocsp", b"junk")
        assert (failing.status, dict(failing.headers)["Cache-Control"]) == (200, "no-store")


async def test_other_paths_methods_and_types_are_turned_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        browser = Browser(rig, responder)
        assert (await browser.get("/")).status == 404
        assert (await browser.get("/ocsp/")).status == 404
        assert (await browser.get("/crl/none.crl")).status == 404
        assert (await browser.get("/favicon.ico")).status == 400
        assert (await browser.post("/elsewhere", b"")).status == 404
        assert (await browser.post("/ocsp", b"", "text/plain")).status == 415
        assert (await browser.post("/crl/metering.crl", b"")).status == 405
        assert responder.made == 0


async def test_a_list_is_where_certificates_say(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        browser = Browser(rig, responder)
        found = await browser.get("/crl/some-ca.crl")
        assert found == await browser.get("/crl/metering.crl?now")
        assert x509.load_der_x509_crl(found.body).issuer == ca_of(rig).subject
        headers = dict(found.headers)
        assert headers["Content-Type"] == "application/pkix-crl"
        again = await browser.get("/crl/metering.crl", if_none_match=headers["ETag"])
        assert (again.status, again.body) == (304, b"")
