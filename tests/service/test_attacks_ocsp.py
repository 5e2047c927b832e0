"""An OCSP responder whose CA comes to its end, whose askers are many, and what it leaves in the audit log."""

from pathlib import Path

import anyio
from cryptography.x509 import ocsp

from agents.ocsp.credential import LIFE
from protocol.labels import Domain
from tests.rig import NOW
from tests.service.test_ocsp import ask, ca_of, check_signature, held, opened, question


async def test_near_the_end_of_its_ca_no_certificate_is_made_for_every_answer(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        device = rig.enrolled()
        end = rig.agent.authorities[Domain.METERING].issuer.not_after
        rig.clock.now = end - 20 * 24 * 3600
        signers = set()
        for number in range(5):
            rig.clock.now += 60
            found = await ask(responder, question(ca_of(rig), 2**60 + number))
            check_signature(ca_of(rig), found)
            signers.add(found.certificates[0].serial_number)
        assert len(signers) == 1
        assert held(device)


async def test_the_end_of_its_ca_is_not_the_end_of_everything_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        serial = held(rig.enrolled())
        await ask(responder, question(ca_of(rig), serial))
        await ask(responder, question(ca_of(rig), serial))  # wanted, and so made anew unasked
        rig.clock.now = rig.agent.authorities[Domain.METERING].issuer.not_after + 1
        with anyio.fail_after(10):
            await responder._make_anew(responder._ageing())
        found = await ask(responder, question(ca_of(rig), serial))
        assert found.response_status is ocsp.OCSPResponseStatus.INTERNAL_ERROR


async def test_every_certificate_of_the_responders_is_in_the_audit_log(tmp_path: Path) -> None:
    async with opened(tmp_path) as (rig, responder):
        rig.clock.now = NOW + LIFE * 3 // 4
        found = await ask(responder, question(ca_of(rig), 5))
        serial = found.certificates[0].serial_number.to_bytes(8, "big")
        assert serial in [entry.serial for entry in rig.events()]
