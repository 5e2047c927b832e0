"""The embedded broker's live connections keep the rights that their certificates have, and no others."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from broker import front_door
from broker.access import Identity
from broker.embedded import EmbeddedBroker, TlsListener, serve
from protocol.labels import Tier
from tests.integration.mqtt_world import Certificates, RawClient, certificates, never_blocking, raw_client

__all__ = ["certificates", "never_blocking"]

OWNED, NEW = Tier.PARTICIPATION, Tier.BOOTSTRAPPING


@dataclass
class Registry:
    """Which device each common name is, until the test says otherwise."""

    devices: dict[str, Identity] = field(default_factory=dict)
    asked: int = 0

    async def identify(self, wanted: Sequence[bytes]) -> list[Identity | None]:
        self.asked += 1
        found: list[Identity | None] = []
        for der in wanted:
            names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            found.append(self.devices.get(str(names[0].value)))
        return found


@dataclass
class Scene:
    broker: EmbeddedBroker
    registry: Registry
    certificates: Certificates
    service: RawClient
    """Hears signed messages."""

    @asynccontextmanager
    async def connected(self, name: str) -> AsyncIterator[RawClient]:
        """Connect with a certificate of this name, as the device that it is."""
        context = self.certificates.devices.client_context(name)
        async with raw_client(self.broker.tls_address, context) as raw:
            assert await raw.connect(self.registry.devices[name].client_id) == 0
            yield raw


@asynccontextmanager
async def scene(certificates: Certificates, **tiers: Tier) -> AsyncIterator[Scene]:
    registry = Registry({name: Identity(name, tier) for name, tier in tiers.items()})
    listener = TlsListener(
        "127.0.0.1", 0, certificates.server_chain, certificates.server_key, certificates.devices.pem.decode()
    )
    async with (
        serve(
            plain=("127.0.0.1", 0), tls=listener, identify=registry.identify, service_password="secret"
        ) as broker,
        raw_client(broker.plain_address) as service,
    ):
        assert await service.connect("s", login=("service", "secret")) == 0
        await service.subscribe("m/+/+")
        yield Scene(broker, registry, certificates, service)


async def test_a_connection_ends_with_its_certificate_and_the_others_go_on(
    certificates: Certificates,
) -> None:
    async with (
        scene(certificates, good=OWNED, bad=OWNED, fresh=NEW) as s,
        s.connected("good") as good,
        s.connected("bad") as bad,
        s.connected("fresh") as fresh,
        raw_client(s.broker.plain_address) as plain,
    ):
        assert await plain.connect("claimed") == 0
        await s.broker.review()
        for one in (good, bad, fresh, plain, s.service):
            assert await one.is_alive()
        del s.registry.devices["bad"]
        await s.broker.review()
        assert await bad.is_closed()
        for one in (good, fresh, plain, s.service):
            assert await one.is_alive()


async def test_a_certificate_that_names_another_device_now_keeps_no_connection(
    certificates: Certificates,
) -> None:
    async with scene(certificates, one=OWNED) as s, s.connected("one") as one:
        s.registry.devices["one"] = Identity("another", OWNED)
        await s.broker.review()
        assert await one.is_closed()


async def test_who_came_back_with_its_next_certificate_stays(certificates: Certificates) -> None:
    async with scene(certificates, before=OWNED, after=OWNED) as s:
        s.registry.devices["after"] = Identity("before", OWNED)
        async with s.connected("before") as before, s.connected("after") as after:
            assert await before.is_closed()
            del s.registry.devices["before"]
            await s.broker.review()
            assert await after.is_alive()


async def test_a_newcomer_gets_its_rights_on_the_connection_that_it_has(certificates: Certificates) -> None:
    async with scene(certificates, device=NEW) as s, s.connected("device") as device:
        assert await device.subscribe("pub/#") == 0x80
        s.registry.devices["device"] = Identity("device", OWNED)
        await device.publish("m/device/readings", b"the first")
        assert (await s.service.message())[:2] == ("m/device/readings", b"the first")
        assert await device.subscribe("pub/#") == 1
        await s.service.publish("pub/crl", b"list")
        assert (await device.message())[:2] == ("pub/crl", b"list")


async def test_a_newcomer_that_insists_is_slowed_down_and_nobody_else(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_door, "ASK_AGAIN_SECONDS", 0.2)
    async with (
        scene(certificates, device=NEW, other=OWNED) as s,
        s.connected("device") as device,
        s.connected("other") as other,
    ):
        asked, start = s.registry.asked, anyio.current_time()
        await device.publish("m/other/readings", b"never, whatever it becomes")
        await device.publish("est/device/meter-ds/sen", b"allowed to anybody")
        assert s.registry.asked == asked
        async with anyio.create_task_group() as tasks:

            async def insist() -> None:
                for _ in range(3):
                    await device.publish("m/device/readings", b"not yet")

            tasks.start_soon(insist)
            await other.publish("m/other/readings", b"at once")
            assert (await s.service.message())[1] == b"at once"
        assert s.registry.asked == asked + 3
        assert anyio.current_time() - start >= 0.4


async def test_rights_that_a_device_has_lost_are_taken_from_its_connection(
    certificates: Certificates,
) -> None:
    async with scene(certificates, device=OWNED) as s, s.connected("device") as device:
        assert await device.subscribe("pub/#") == 1
        assert await device.subscribe("est/device/+/+/+") == 1
        s.registry.devices["device"] = Identity("device", NEW)
        await s.broker.review()
        await s.service.publish("pub/crl", b"not for newcomers")
        await device.publish("m/device/readings", b"not from newcomers")
        await s.service.publish("est/device/meter-ds/sen/accepted", b"for everybody")
        assert (await device.message())[1] == b"for everybody"
        assert await s.service.hears_nothing()
