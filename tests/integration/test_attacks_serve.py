"""An attacker with sockets against `trillium serve`, a process of its own: CoAP, MQTT, MQTT over TLS."""

import os
import signal
import socket
import sqlite3
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import anyio
import pytest

from agents.cli.passphrase import VARIABLE
from agents.cli.transports import tls_context
from agents.devices.identity import Identity
from agents.keys import SoftwareSigner, load_private_key
from broker.replies import decode_reply
from broker.topics import Outcome
from constrained.wire import Block, Code, Datagram, Option, Type, decode, encode
from protocol import c509, cbor
from protocol.cose import decode_sign1
from protocol.errors import ProblemKind
from protocol.labels import Domain, Operation
from protocol.message import sign_message
from protocol.ports import Content, Inbound
from protocol.problem import Problem
from tests.integration.cli_world import FREE, Town, as_json, done, refused, serving, town, until
from tests.integration.mqtt_world import PUBLISH, RawClient, packet, raw_client, text
from tests.rig import Device, new_key

SIGN1 = 18
SECONDS = 10.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town(tmp_path_factory.mktemp("town")) as made:
        yield made


# --- what an attacker is made of ------------------------------------------------------------------------


def owner_of(folder: Path) -> Device:
    """Return what a curious owner reads from a device's flash."""
    identity = Identity.load(folder)
    name, authority, _ = cbor.decode_array(decode_sign1(identity.voucher()).payload, 3)
    key = load_private_key(folder / "bootstrap.key", None)
    certificate = (folder / "bootstrap.c509").read_bytes()
    credentials = {identity.label: (SoftwareSigner(key, even_y=False), certificate)}
    return Device(name, identity.domain, authority, identity.client_id, credentials)


def address(uri: str) -> tuple[str, int]:
    parts = urlsplit(uri)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


class Coap:
    """A socket and message IDs."""

    def __init__(self, uri: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(SECONDS)
        self.socket.connect(address(uri))
        self._mid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, path: str, body: bytes, *options: tuple[int, bytes], code: Code = Code.POST) -> None:
        self._mid += 1
        own = [(Option.URI_PATH, part.encode()) for part in path.split("/")]
        if all(number != Option.CONTENT_FORMAT for number, _ in options):
            own.append((Option.CONTENT_FORMAT, bytes([SIGN1])))
        token = self._mid.to_bytes(2, "big")
        self.socket.send(encode(Type.CON, code, self._mid, token, [*own, *options], body))

    def receive(self) -> Datagram:
        """Return the next response; acknowledgements without one are passed over."""
        while True:
            found = decode(self.socket.recv(8192))
            if found.code != Code.EMPTY:
                return found

    def ask(self, path: str, body: bytes, *options: tuple[int, bytes]) -> Datagram:
        self.send(path, body, *options)
        return self.receive()

    def request(self, inbound: Inbound) -> Datagram:
        return self.ask(f"e/{inbound.label}/{inbound.op.value}", inbound.body)


def kind_of(answer: Datagram) -> ProblemKind:
    return Problem.decode(answer.payload).kind


def log_of(place: Town) -> list[str]:
    return (place.directory.parent / "serve.log").read_text().splitlines()


TABLES = ("devices", "keys", "certificates", "answers", "audit", "message_counters")


def everything(place: Town) -> dict[str, list[tuple[Any, ...]]]:
    with sqlite3.connect(place.directory / "store.sqlite") as store:
        found = {name: store.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in TABLES}
    store.close()
    return found


def rows(place: Town, question: str, *values: object) -> list[tuple[Any, ...]]:
    with sqlite3.connect(place.directory / "store.sqlite") as store:
        found = store.execute(question, values).fetchall()
    store.close()
    return found


def enrolled(place: Town, folder: Path) -> Device:
    """Return a device with a current certificate, by hand."""
    device, key = owner_of(folder), new_key()
    with Coap(place.via("coap")) as coap:
        certificate = coap.request(device.enroll(key)).payload
        device = device.holding(device.label, key, certificate)
        assert coap.request(device.confirm(certificate)).code == Code.CHANGED
    return device


# --- CoAP -----------------------------------------------------------------------------------------------


def test_bad_requests_get_a_code_a_problem_and_one_log_line(place: Town) -> None:
    device = owner_of(place.meters[0])
    good = device.enroll(new_key()).body
    stranger = Device(device.name, Domain.METERING, device.authority, "x", {}).holding(
        "meter-boot", new_key(), b"a certificate that nobody knows"
    )
    bad: Sequence[tuple[str, bytes, Code, ProblemKind]] = [
        ("e/meter-ds/sen", os.urandom(200), Code.BAD_REQUEST, ProblemKind.MALFORMED),
        ("e/meter-ds/sen", good[:-1], Code.BAD_REQUEST, ProblemKind.MALFORMED),
        ("e/meter-ds/sen", bytes(1025), Code.REQUEST_ENTITY_TOO_LARGE, ProblemKind.TOO_LARGE),
        ("e/meter-ds/sren", good, Code.UNAUTHORIZED, ProblemKind.BAD_SIGNATURE),
        ("e/meter-ds/sen", stranger.enroll(new_key()).body, Code.UNAUTHORIZED, ProblemKind.UNKNOWN_SIGNER),
        ("e/meter-ds/skg", good, Code.NOT_FOUND, ProblemKind.NOT_FOUND),
        ("m/readings", os.urandom(100), Code.BAD_REQUEST, ProblemKind.MALFORMED),
    ]
    before = everything(place)
    with Coap(place.via("coap")) as coap:
        for path, body, code, kind in bad:
            lines = len(log_of(place))
            answer = coap.ask(path, body)
            assert (answer.code >> 5, kind_of(answer)) == (code >> 5, kind), path
            new = log_of(place)[lines:]
            assert len(new) == 1, new
            assert kind.name.lower() in new[0].lower()
        # These never reach an authority; a flood of them leaves a line a second.
        lines = len(log_of(place))
        assert coap.ask("e/no-label/sen", good).code == Code.NOT_FOUND
        assert coap.ask(".well-known/est/meter-boot/sen", good).code == Code.NOT_FOUND
        assert coap.ask("e/meter-ds/sen", bytes(4200)).code == Code.REQUEST_ENTITY_TOO_LARGE
        wrong_format = (Option.CONTENT_FORMAT, b"\x3c")
        assert coap.ask("e/meter-ds/sen", good, wrong_format).code == Code.UNSUPPORTED_CONTENT_FORMAT
        new = log_of(place)[lines:]
        assert 1 <= len(new) <= 3
        assert "turned coap:127.0.0.1:" in new[0]
    assert everything(place) == before


def test_a_refusal_over_coap_is_signed_and_given_again(place: Town) -> None:
    device, victim = owner_of(place.meters[0]), owner_of(place.meters[1])
    inbound = device.enroll(new_key(), name=victim.name)
    certificates = rows(place, "SELECT * FROM certificates")
    with Coap(place.via("coap")) as coap:
        first, second = coap.request(inbound), coap.request(inbound)
    assert first.code >> 5 == 4
    assert dict(first.options)[Option.CONTENT_FORMAT] == bytes([SIGN1])
    decode_sign1(first.payload)
    assert first.payload == second.payload
    assert rows(place, "SELECT * FROM certificates") == certificates


def test_a_recording_played_back_a_hundred_times_keeps_nobody_from_rekeying(place: Town) -> None:
    device = enrolled(place, place.meters[1])
    recorded = device.confirm(device.credentials["meter-ds"][1])
    certificates = rows(place, "SELECT * FROM certificates")
    with Coap(place.via("coap")) as attacker:
        for _ in range(100):
            assert attacker.request(recorded).code == Code.CHANGED
    assert rows(place, "SELECT * FROM certificates") == certificates
    with Coap(place.via("coap")) as coap:
        key = new_key()
        answer = coap.request(device.enroll(key, op=Operation.SREN))
        assert answer.code == Code.CHANGED
        c509.decode_certificate(answer.payload)


def test_uploads_that_never_end_hold_nobody_up(place: Town) -> None:
    """One block each, and no second one; then somebody enrolls in small blocks as if nothing were."""
    device = owner_of(place.gateways[0])
    body = device.enroll(new_key()).body
    path = "e/its-enroll/sen"
    with Coap(place.via("coap")) as attacker, Coap(place.via("coap")) as coap:
        for number in range(1300):
            tag = (Option.REQUEST_TAG, number.to_bytes(4, "big"))
            attacker.send(path, bytes(16), (Option.BLOCK1, Block(0, True, 0).encode()), tag)
            assert attacker.receive().code == Code.CONTINUE
        blocks = [body[start : start + 64] for start in range(0, len(body), 64)]
        for number, block in enumerate(blocks):
            is_last = number == len(blocks) - 1
            answer = coap.ask(path, block, (Option.BLOCK1, Block(number, not is_last, 2).encode()))
            assert answer.code == (Code.CHANGED if is_last else Code.CONTINUE)


# --- both transports ------------------------------------------------------------------------------------


async def mqtt_ask(client: RawClient, client_id: str, inbound: Inbound) -> object:
    """Return the reply to a request; `client` is subscribed to its own prefix."""
    topic = f"est/{client_id}/{inbound.label}/{inbound.op.value}"
    await client.send(packet(PUBLISH | 2, text(topic) + b"\x00\x05" + inbound.body))
    while True:
        where, payload, _ = await client.message()
        if where != topic:
            return decode_reply(Outcome(where.rpartition("/")[2]), payload, inbound.op)[1]


async def test_twins_on_both_transports_at_once_get_one_certificate(place: Town) -> None:
    device = owner_of(place.meters[2])
    inbound = device.enroll(new_key())
    answers: list[bytes] = []

    def over_coap() -> None:
        with Coap(place.via("coap")) as coap:
            answers.append(coap.request(inbound).payload)

    async with raw_client(address(place.via("mqtt"))) as client, anyio.create_task_group() as tasks:
        assert await client.connect(device.client_id) == 0
        await client.subscribe(f"est/{device.client_id}/#")

        async def over_mqtt() -> None:
            reply = await mqtt_ask(client, device.client_id, inbound)
            assert isinstance(reply, Content)
            answers.append(reply.body)

        for _ in range(3):
            tasks.start_soon(anyio.to_thread.run_sync, over_coap)
        tasks.start_soon(over_mqtt)
    assert len(answers) == 4
    assert len(set(answers)) == 1
    issued = rows(place, "SELECT id FROM certificates WHERE encoded = ?", answers[0])
    assert len(issued) == 1


async def test_who_takes_anothers_request_to_its_own_topic_gets_what_is_public_and_no_more(
    place: Town,
) -> None:
    device, attacker = owner_of(place.meters[3]), "attacker"
    inbound = device.enroll(new_key())
    async with raw_client(address(place.via("mqtt"))) as client:
        assert await client.connect(attacker) == 0
        await client.subscribe(f"est/{attacker}/#")
        stolen = await mqtt_ask(client, attacker, inbound)
        assert isinstance(stolen, Content)
    with Coap(place.via("coap")) as coap:
        assert coap.request(inbound).payload == stolen.body, "its owner gets the same"


# --- MQTT -----------------------------------------------------------------------------------------------


async def test_another_clients_topics_are_out_of_reach(place: Town) -> None:
    victim, device = owner_of(place.meters[4]), enrolled(place, place.meters[5])
    signer, certificate = device.credentials["meter-ds"]
    reading = sign_message(signer, c509.thumbprint(certificate), "readings", b"x", counter=1, time=None)
    request = victim.enroll(new_key()).body
    host = address(place.via("mqtt"))
    async with raw_client(host) as listener, raw_client(host) as attacker:
        assert await listener.connect(victim.client_id) == 0
        await listener.subscribe(f"est/{victim.client_id}/#")
        before = everything(place)
        lines = len(log_of(place))
        assert await attacker.connect("attacker") == 0
        for topic_filter in (
            "#",
            "+/#",
            "est/#",
            f"est/{victim.client_id}/#",
            "m/+/+",
            "verified/#",
            "$SYS/#",
        ):
            assert await attacker.subscribe(topic_filter) == 0x80, topic_filter
        for topic in (
            f"est/{victim.client_id}/meter-ds/sen",
            f"est/{victim.client_id}/meter-ds/sen/accepted",
            f"m/{victim.client_id}/readings",
            "verified/readings",
            "pub/crl/metering",
            "est/attacker/meter-ds/sen/accepted",
        ):
            await attacker.publish(topic, request)
        assert await listener.hears_nothing()
        # A good message, on the topic of who did not sign it.
        await attacker.publish("m/attacker/readings", reading)
        await anyio.to_thread.run_sync(
            lambda: until(lambda: any("wrong_client" in line for line in log_of(place)[lines:]), 5)
        )
        assert await attacker.is_alive()
    assert everything(place) == before
    new = log_of(place)[lines:]
    assert len(new) <= 7 + 6 + 1
    assert sum("may not" in line for line in new) >= 12


async def test_over_tls_a_device_is_who_its_certificate_says(place: Town) -> None:
    own, other = Identity.load(place.meters[0]), Identity.load(place.meters[1])
    context = tls_context(own.folder, None)
    context.check_hostname = False
    host = address(place.via("mqtts"))
    async with raw_client(host, context) as client:
        assert await client.connect(other.client_id) == 5, "not authorized"
    async with raw_client(host, context) as client:
        assert await client.connect(own.client_id) == 0
        async with raw_client(address(place.via("mqtt"))) as taker:
            assert await taker.connect(own.client_id) == 5, "who only claims a name pushes nobody out"
        assert await client.is_alive()
    nobody = ssl.create_default_context(cafile=str(own.folder / "root.pem"))
    nobody.check_hostname = False
    async with raw_client(host, nobody) as client:
        assert await client.connect(own.client_id) == 5
    done("revoke", place.directory, own.device, "--reason", "cessation-of-operation")
    async with raw_client(host, context) as client:
        assert await client.connect(own.client_id) == 5, "revoked"


async def test_half_open_connections_keep_nobody_out(place: Town) -> None:
    host = address(place.via("mqtt"))
    async with anyio.create_task_group() as tasks:

        async def dawdle() -> None:
            async with raw_client(host) as client:
                await client.send(b"\x10")
                await anyio.sleep_forever()

        for _ in range(200):
            tasks.start_soon(dawdle)
        await anyio.wait_all_tasks_blocked()
        folder, via = place.gateways[1], place.via("mqtt")
        await anyio.to_thread.run_sync(lambda: done("device", "enroll", "--identity", folder, "--via", via))
        tasks.cancel_scope.cancel()


# --- the end --------------------------------------------------------------------------------------------


def test_recordings_are_worth_nothing_after_a_crash(tmp_path: Path) -> None:
    """SIGKILL, and the same directory again: messages stay used, requests keep their one answer."""
    directory = tmp_path / "authority"
    done("init", directory, "--roots", tmp_path / "roots")
    (tmp_path / "roots").rename(tmp_path / "far-away")
    made = as_json("factory", directory, "--label", "meter-boot", "--count", 1, "--out", tmp_path / "batch")
    folder = tmp_path / "batch" / made["devices"][0]
    device, key = owner_of(folder), new_key()
    request = device.enroll(key)
    options = ("--coap", FREE, "--mqtt", "none")
    with serving(directory, *options) as serve, Coap(serve.uri("coap")) as coap:
        certificate = coap.request(request).payload
        device = device.holding("meter-ds", key, certificate)
        confirmation = device.confirm(certificate)
        assert coap.request(confirmation).code == Code.CHANGED
        reading = sign_message(key, c509.thumbprint(certificate), "readings", b"x", counter=7, time=None)
        assert coap.ask("m/readings", reading).code == Code.CHANGED
        here = Town(directory, [folder], [], serve)
        until(lambda: rows(here, "SELECT counter FROM message_counters") == [(7,)], 5)
        assert serve.stop(signal.SIGKILL) == -signal.SIGKILL
    before = rows(here, "SELECT * FROM certificates")
    with serving(directory, *options) as serve, Coap(serve.uri("coap")) as coap:
        assert kind_of(coap.ask("m/readings", reading)) is ProblemKind.STALE_MESSAGE
        assert coap.request(request).payload == certificate
        assert coap.request(confirmation).code == Code.CHANGED
        assert serve.stop() == 0
    assert rows(here, "SELECT * FROM certificates") == before
    assert as_json("audit", "verify", directory)["intact"] is True
    assert not any("Traceback" in line for line in log_of(here))


def test_after_all_that_it_serves_as_before_and_nothing_was_a_fault_of_ours(place: Town) -> None:
    folder, coap = place.gateways[2], place.via("coap")
    told = as_json("device", "enroll", "--identity", folder, "--via", coap)
    assert told["label"] == "its-enroll"
    assert as_json("audit", "verify", place.directory)["intact"] is True
    log = log_of(place)
    assert not [line for line in log if "Traceback" in line or "level=error" in line]
    assert not [line for line in log if VARIABLE in line or "PRIVATE KEY" in line]
    assert "another authority serves" in refused("serve", place.directory, "--coap", FREE, "--mqtt", "none")
    assert place.serve.stop() == 0
