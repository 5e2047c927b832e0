"""libcoap fetches revocation lists in every form, OpenSSL reads the ones in DER."""

import shutil
import subprocess
from pathlib import Path

import anyio
import pytest

from agents.authority import revoke
from constrained.formats import DEFAULT_FORMATS
from constrained.server import serve
from protocol import c509
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain
from protocol.ports import Media
from protocol.revocation_list import decode_list
from tests.rig import NOW, open_rig

CLIENT = next(
    filter(
        None,
        map(shutil.which, ("coap-client", "coap-client-notls", "coap-client-openssl", "coap-client-gnutls")),
    ),
    None,
)

pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(CLIENT is None, reason="libcoap's coap-client is not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


@pytest.mark.parametrize("engine", ["aiocoap", "lean"])
async def test_full_lists_and_deltas_in_both_forms(engine: str, tmp_path: Path) -> None:
    assert CLIENT is not None
    c509_format = str(DEFAULT_FORMATS.number(Media.C509_CRL))
    async with open_rig(tmp_path) as rig:
        revocations = rig.agent._revocations[Domain.METERING]
        base = revocations.current(NOW).number
        device = rig.enrolled()
        serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial
        revoke(rig.agent.store, serial.hex(), RevocationReason.KEY_COMPROMISE, NOW)
        revocations._not_again_before = 0.0  # in tests things happen faster than lists may be built
        revocations.current(NOW)
        async with serve(
            rig.agent.handle,
            rig.agent.labels,
            bind=("127.0.0.1", 0),
            engine=engine,  # type: ignore[arg-type]  # one of the two by the parameters above
        ) as server:
            uri = f"{server.uris[0]}/e/meter-ds/crl"
            for name, options in {
                "full.der": [uri],
                "delta.der": [f"{uri}?base={base}"],
                "full.c509": ["-A", c509_format, uri],
                "delta.c509": ["-A", c509_format, f"{uri}?base={base}"],
            }.items():
                with anyio.fail_after(30):
                    path = str(tmp_path / name)
                    await anyio.run_process([CLIENT, "-B", "10", "-b", "64", "-o", path, *options])
        issuer = tmp_path / "issuer.pem"
        line = rig.agent.settings.lines(Domain.METERING).operator
        shutil.copy(rig.directory / "certificates" / f"{line[-1].name}.pem", issuer)
    for name, head in (("full.c509", None), ("delta.c509", base)):
        found = decode_list((tmp_path / name).read_bytes())
        assert (found.head.base, dict(found.revoked)) == (head, {serial: 1})
    for name in ("full.der", "delta.der"):
        command = ["openssl", "crl", "-inform", "DER", "-in", str(tmp_path / name), "-noout", "-text"]
        done = subprocess.run(  # noqa: ASYNC221 (a moment, at the end of a test)
            [*command, "-CAfile", str(issuer)], capture_output=True, text=True, check=False
        )
        assert "verify OK" in done.stderr
        assert serial.hex().upper() in done.stdout
        assert ("Delta CRL Indicator: critical" in done.stdout) is (name == "delta.der")
