"""What changes of owner are written on, in words."""

import hashlib

from agents.authority.owners import Card
from agents.inspect import Finding, inspect
from agents.keys import SoftwareSigner, generate
from protocol import c509
from protocol.errors import ProblemKind
from protocol.labels import Domain, Operation
from protocol.problem import Problem, Successor
from protocol.receipt import sign_verdict
from protocol.transfer import TransferBundle, TransferredDevice
from tests.world import NOW, World

SIGNER = SoftwareSigner(generate(), even_y=False)


def explained(data: bytes) -> tuple[Finding, dict[str, str]]:
    (found,) = inspect(data, NOW)
    return found, {field.name: field.text for field in found.fields}


def test_a_bundle_says_who_gives_what_to_whom() -> None:
    devices = tuple(
        TransferredDevice(f"54524C{number:010X}", "meter-boot", f"c{number}", 2, b"v", b"c", 0)
        for number in range(25)
    )
    bundle = TransferBundle(
        Domain.METERING, b"\x01" * 32, b"\x02" * 32, b"chain", (b"maker",), "alice", NOW, devices
    )
    found, fields = explained(bundle.sign(SIGNER, bytes(32)))
    assert found.kind == "transfer-bundle"
    assert fields["from"].endswith("01" * 32)
    assert fields["to"].endswith("02" * 32)
    assert (fields["approved by"], fields["devices"], fields["and"]) == ("alice", "25", "5 more")
    assert fields["54524C0000000000"] == "meter-boot, client-id c0, epoch 2"


def test_a_card_says_whose_it_is() -> None:
    world = World()
    card = Card("SOUTH", "coap://192.0.2.7", {Domain.METERING: world.chain})
    found, fields = explained(card.encode())
    assert found.kind == "owner-card"
    assert (fields["organisation"], fields["reached at"]) == ("SOUTH", "coap://192.0.2.7")
    assert "TRL-M" in fields["metering"]
    assert explained(Card("Tenant", None, {}).encode())[1]["authorities"] == "none: a tenant"
    broken = Card("SOUTH", None, {Domain.METERING: b"\x80"})
    assert "no chain" in explained(broken.encode())[1]["metering"]


def test_a_refusal_says_that_it_carries_the_next_owner() -> None:
    problem = Problem(ProblemKind.OWNER_CHANGED, "sold", None, Successor(b"voucher", "coap://192.0.2.7"))
    refusal = sign_verdict(
        problem,
        SIGNER,
        thumbprint=c509.thumbprint(b"registration"),
        request_digest=hashlib.sha256(b"request").digest(),
        authority=bytes(32),
        label="meter-ds",
        op=Operation.SREN,
    )
    found, fields = explained(refusal)
    assert found.kind == "refusal"
    assert fields["why"] == "23: owner changed"
    assert (fields["next owner"], fields["next owner at"]) == ("voucher of 7 bytes", "coap://192.0.2.7")
