"""`trillium reach` and `removed` as a person types them, beside an open authority."""

from pathlib import Path

from agents.authority import revoke
from protocol import c509
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain
from tests.integration.cli_world import as_json, done, refused
from tests.rig import NOW, rig_in


def test_a_revocation_is_followed_from_the_list_to_the_meter(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        directory, device = rig.directory, rig.enrolled()
        assert "nothing is revoked" in done("reach", directory)
        serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial.hex()
        revoke(rig.agent.store, serial, RevocationReason.KEY_COMPROMISE, NOW)
        assert "none yet" in done("reach", directory)
        rig.agent._revocations[Domain.METERING]._not_again_before = 0.0
        number = rig.agent._revocations[Domain.METERING].current(NOW).number
        rig.agent.reach.fetched(rig.agent.authorities[Domain.METERING].key_id, "coap", number, NOW)
        rig.agent.reach.write(NOW, is_last=True)
        told = done("reach", directory)
        assert f"{number}, 2027-01-15" in told
        assert "coap 1" in told
        assert "1 needed" in told
        assert "within a second" in told
        (found,) = as_json("reach", directory)["revoked"]
        assert (found["device"], found["serial"], found["removal_needed"]) == (device.name, serial, True)
        assert found["first_list"] == {"number": number, "at": NOW, "exact": True}
        assert found["given_out"] == {"coap": {"count": 1, "last_at": NOW}}
        assert "never had" in refused("removed", directory, device.name, "0102")
        assert "in hex" in refused("removed", directory, device.name, "xyz", code=2)
        assert "is recorded" in done("removed", directory, device.name, serial)
        assert "nothing changed" in done("removed", directory, device.name, serial)
        (found,) = as_json("reach", directory)["revoked"]
        assert (found["removal"], found["removal_needed"]) == ("confirmed", False)
