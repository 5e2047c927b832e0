"""Lists and OCSP answers of authorities on every curve, with sub-CAs and without."""

import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from agents.authority import initialise, open_authority
from agents.ocsp import open_responder
from protocol.cose import is_signature_valid
from protocol.labels import Domain
from protocol.path import cose_algorithm, verification_key
from protocol.ports import Media
from protocol.revocation_list import decode_list
from tests.rig import NOW, PASSPHRASE, Clock
from tests.service.test_ocsp import check_signature, question

CURVES = {
    Domain.METERING2: "secp384r1",
    Domain.SMKI: "secp256r1",
    Domain.EV_CPO: "secp256r1",
    Domain.EV20_CPO: "secp521r1",
}


@pytest.fixture(scope="module", params=[0, 3], ids=lambda count: f"{count} sub-CAs")
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves") / "authority"
    initialise(folder, passphrase=PASSPHRASE, now=NOW, domains=tuple(CURVES), sub_cas=request.param)
    if (folder / "roots").is_dir():
        shutil.rmtree(folder / "roots")
    return folder


async def test_every_authority_signs_lists_and_answers_with_its_own_curve(directory: Path) -> None:
    async with (
        open_authority(directory, PASSPHRASE, clock=Clock()) as agent,
        open_responder(agent, directory, PASSPHRASE, clock=Clock()) as responder,
    ):
        for domain, curve in CURVES.items():
            authority = agent.authorities[domain]
            ca = x509.load_der_x509_certificate(authority.issuer.certificate.to_der())
            key = ca.public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            assert key.curve.name == curve
            revocations = agent._revocations[domain]
            for base in (None, 1):
                found = x509.load_der_x509_crl(revocations.get(NOW, Media.PKIX_CRL, base).encoded)
                assert found.is_signature_valid(key)
                compact = decode_list(revocations.get(NOW, Media.C509_CRL, base).encoded)
                algorithm = cose_algorithm(compact.algorithm)
                assert algorithm is not None
                assert is_signature_valid(
                    verification_key(authority.issuer.certificate),
                    algorithm,
                    compact.signature,
                    compact.signed_bytes,
                )
                assert compact.issuer == authority.issuer.certificate.subject
            serial = authority.registrar.certificate.serial_number
            answer = ocsp.load_der_ocsp_response((await responder.answer(question(ca, serial))).der)
            check_signature(ca, answer)
            assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
            signer = answer.certificates[0].public_key()
            assert isinstance(signer, ec.EllipticCurvePublicKey)
            assert signer.curve.name == curve
