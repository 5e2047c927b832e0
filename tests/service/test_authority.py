"""The authority behind its port: real keys, real store, no network."""

from pathlib import Path

import pytest

from protocol import c509
from protocol.labels import Domain
from protocol.ports import Content
from tests.rig import certificate_of, new_key, open_rig


@pytest.mark.parametrize("domain", [Domain.METERING, Domain.ITS])
async def test_a_device_enrolls_and_confirms(tmp_path: Path, domain: Domain) -> None:
    async with open_rig(tmp_path) as rig:
        device = rig.device(domain)
        key = new_key()
        certificate = certificate_of(await rig.agent.handle(device.enroll(key)))
        decoded = c509.decode_certificate(certificate)
        assert decoded.subject.cn == device.name
        assert decoded.public_key_bytes == key.public_key
        reply = await rig.agent.handle(device.holding(device.label, key, certificate).confirm(certificate))
        assert isinstance(reply, Content)
        assert len(certificate) <= (200 if domain is Domain.METERING else 145)
