"""A contract on its way to a car over sockets: CoAP in small blocks, MQTT in one message, and as typed."""

import json
from pathlib import Path

import pytest

from broker import client as mqtt
from constrained.client import connect
from protocol import cbor
from protocol.ports import Content, DeviceTransport, Media
from tests.charging_world import IMPATIENT, Street, make_template, open_street
from tests.integration.cli_world import FREE, as_json, done, refused, serving

EMAID = "DETRLC00000001"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("contracts"))


async def way(street: Street, scheme: str, client_id: str) -> DeviceTransport:
    if scheme == "coap":
        return await street.stack.enter_async_context(
            connect(street.uri, retransmission=IMPATIENT, block_size=256)
        )
    return await street.stack.enter_async_context(mqtt.connect(await street.broker(), client_id))


@pytest.mark.parametrize("part", ["ev", "ev20"])
@pytest.mark.parametrize("scheme", ["coap", "mqtt"])
async def test_a_package_longer_than_any_request_arrives_whole(
    template: Path, tmp_path: Path, scheme: str, part: str
) -> None:
    async with open_street(template, tmp_path) as street:
        car = await street.car(label=f"{part}-oem")
        emaid = await street.contract(car)
        transport = await way(street, scheme, car.identity.client_id)
        first = await car.obtain_contract(transport)
        assert first.subject.cn == emaid
        second = await car.rekey(f"{part}-contract", transport)
        assert second.serial != first.serial
        packages = [
            reply.body
            for reply in street.wire.said
            if isinstance(reply, Content) and reply.media is Media.CONTRACT_PACKAGE
        ]
        assert len(packages) == 2
        assert part == "ev" or all(len(package) > cbor.MAX_MESSAGE_BYTES for package in packages)


def made(directory: Path, label: str, out: Path) -> Path:
    """Make one device; return its folder."""
    batch = as_json("factory", directory, "--label", label, "--count", 1, "--out", out)
    return out / str(batch["devices"][0])


def test_a_typed_contract_from_grant_to_end(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    done("init", directory, "--roots", tmp_path / "roots", "--domain", "ev")
    (tmp_path / "roots").rename(tmp_path / "far-away")
    car, service = (made(directory, label, tmp_path / label) for label in ("ev-oem", "ev-service"))
    pcid = json.loads((car / "identity.json").read_text())["device"]
    assert "no contracts" in done("contracts", directory)
    assert "YYYY-MM-DD" in refused("contract", "add", directory, pcid, EMAID, "--until", "soon", code=2)
    assert "no device is called" in refused("contract", "add", directory, "TRL000000000009999", EMAID)
    assert "is a ev-oem" in refused("serve", directory, "--cps", car, code=2)
    with serving(directory, "--coap", FREE, "--mqtt", "none", "--cps", service) as serve:
        said = (tmp_path / "serve.log").read_text()
        assert f"trillium device enroll --identity {service}" in said
        assert "name the ev20-service identity that signs its packages with --cps20 FOLDER" in said
        via = serve.uri("coap")
        granted = as_json("contract", "add", directory, pcid, "de-trl-c00000001", "--until", "2099-12-31")
        assert (granted["contract"], granted["state"], granted["tenant"]) == (EMAID, "granted", "DETRL")
        obtain = ("device", "enroll", "--identity", car, "--via", via)
        assert "no usable answer" in refused(*obtain, "--timeout", 1)
        done("device", "enroll", "--identity", service, "--via", via, "--label", "ev-cps")
        # The request that was begun is answered now; nothing was restarted.
        certificate = as_json(*obtain, "--label", "ev-contract")
        (listed,) = as_json("contracts", directory)
        assert (listed["state"], listed["serial"]) == ("installed", certificate["serial"])
        assert EMAID in done("contracts", directory)
        renewed = as_json("device", "rekey", "--identity", car, "--via", via)
        assert renewed["serial"] != certificate["serial"]
        assert "its certificate is revoked" in done("contract", "end", directory, EMAID)
        assert "nothing is granted" in refused(*obtain, "--label", "ev-contract")
        assert "no such contract" in refused("contract", "end", directory, EMAID)
    assert as_json("contracts", directory) == []
    (ended,) = as_json("contracts", directory, "--all")
    assert ended["state"] == "ended"
