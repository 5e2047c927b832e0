"""`openssl verify` as a second opinion: random chains, each with at most one thing wrong, all in one pool.

Where OpenSSL has an opinion the verdicts are the same. Where they differ they differ on purpose: the tests
at the end say how.
"""

import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type as ASN1Type
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import c509
from protocol.c509 import ExtensionId
from protocol.validator import (
    Criticality,
    Extensions,
    PathRejected,
    Policy,
    Presence,
    Reason,
    Rule,
    validate,
)
from protocol.validity import Clock
from tests.ev_policies import SECC_20
from tests.ev_world import CA_TRUE, CA_USAGES, NOW, PART_20, EvWorld, Party, Style, Wish, ca_wish, issue

OPENSSL: Final = shutil.which("openssl")
pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(OPENSSL is None, reason="the openssl program is not installed"),
]

STYLE: Final = Style(has_pointers=False)
_IDENTIFIERS: dict[int | bytes, Rule] = {
    ExtensionId.AUTHORITY_KEY_IDENTIFIER: Rule(Presence.REQUIRED),
    ExtensionId.SUBJECT_KEY_IDENTIFIER: Rule(),
}
_OF_A_CA: dict[int | bytes, Rule] = {
    ExtensionId.BASIC_CONSTRAINTS: Rule(Presence.REQUIRED, Criticality.MUST),
    ExtensionId.KEY_USAGE: Rule(Presence.REQUIRED, Criticality.MAY),
    ExtensionId.SUBJECT_KEY_IDENTIFIER: Rule(Presence.REQUIRED),
}
STRICT: Final = Policy(
    name="as openssl verify -x509_strict",
    extensions=Extensions(_IDENTIFIERS),
    ca_extensions=Extensions({**_IDENTIFIERS, **_OF_A_CA}),
    root_extensions=Extensions(_OF_A_CA),
)
UNKNOWN: Final = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")

MUTATIONS: Final[dict[str, dict[str, Any]]] = {
    "nothing": {},
    "expired": {"not_after": NOW - 1},
    "future": {"not_before": NOW + 1},
    "no end": {"not_after": 253402300799},
    "unknown critical extension": {"extra": ((UNKNOWN, True),)},
    "unknown extension": {"extra": ((UNKNOWN, False),)},
    "other issuer name": {"issuer_name": x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "?")])},
    "other authority key identifier": {"authority": bytes(range(20))},
    "no authority key identifier": {"without": frozenset({x509.AuthorityKeyIdentifier})},
    "critical key identifiers": {"is_critical": True},
    "other subject key identifier": {"identifier": bytes(range(20))},
}
"""What may be wrong with any certificate of a chain."""
CA_MUTATIONS: Final[dict[str, dict[str, Any]]] = {
    "no basic constraints": {"constraints": None},
    "CA:FALSE": {"constraints": "CA:FALSE"},
    "no keyCertSign": {"usages": ("crl_sign",)},
    "no key usage": {"usages": None},
    "more usages": {"usages": (*CA_USAGES, "digital_signature")},
    "path length 0": {"path_length": 0},
    "path length 1": {"path_length": 1},
    "no subject key identifier": {"without": frozenset({x509.SubjectKeyIdentifier})},
}
DAMAGES: Final = ("signature", "serial number", "missing")
"""What may happen to a certificate afterwards."""


@dataclass(frozen=True)
class Plan:
    """One chain: how many CAs are between, what is wrong, and where (0 is the leaf)."""

    depth: int
    wrong: str
    place: int

    def party(self, issuer: Party | None, wish: Wish, place: int) -> Party:
        if place == self.place:
            changes = MUTATIONS.get(self.wrong) or (CA_MUTATIONS.get(self.wrong, {}) if place else {})
            wish = replace(wish, **changes)
        return issue(issuer, wish, STYLE)


@dataclass(frozen=True)
class Chain:
    """A chain as it was made, all in DER."""

    leaf: bytes
    between: list[bytes]
    roots: list[bytes]


def made(plan: Plan, number: int) -> Chain:
    """Return the chain; all good roots of a pool have one name.

    A bad one has its own: OpenSSL takes the first root that fits by name and key identifier and never
    goes back, so that a root without a key identifier would spoil the others.
    """
    top = plan.depth + 1
    parties = [plan.party(None, ca_wish(f"Root {number}" if plan.place == top else "Root"), top)]
    for place in range(plan.depth, 0, -1):
        parties.append(plan.party(parties[-1], ca_wish(f"CA {number}.{place}"), place))
    parties.append(plan.party(parties[-1], Wish(cn=f"Leaf {number}"), 0))
    ders = [party.der for party in reversed(parties)]
    if plan.place <= top:
        target = parties[-1 - plan.place]
        if plan.wrong == "signature":
            ders[plan.place] = target.der[:-1] + bytes([target.der[-1] ^ 1])
        elif plan.wrong == "serial number":
            serial = target.certificate.serial
            ders[plan.place] = target.der.replace(serial, serial[:-1] + bytes([serial[-1] ^ 1]), 1)
    leaf, *between, anchor = ders
    if plan.wrong == "missing" and 0 < plan.place < top:
        del between[plan.place - 1]
    is_stranger = plan.wrong == "missing" and plan.place == top
    return Chain(leaf, [*between, anchor] if is_stranger else between, [] if is_stranger else [anchor])


def pem(ders: list[bytes]) -> bytes:
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in ders)


def openssl_takes(folder: Path, chains: list[Chain], *options: str) -> list[bool]:
    """Return what `openssl verify` says of each chain; their CAs are in one pool."""
    pools = {
        "roots.pem": [root for chain in chains for root in chain.roots],
        "between.pem": [ca for chain in chains for ca in chain.between],
    }
    leaves = [f"{number}.pem" for number in range(len(chains))]
    for name, ders in (
        *pools.items(),
        *((name, [one.leaf]) for name, one in zip(leaves, chains, strict=True)),
    ):
        (folder / name).write_bytes(pem(ders))
    command = ["openssl", "verify", "-no-CAfile", "-no-CApath", "-no-CAstore", "-attime", str(NOW), *options]
    for option, name in (("-trusted", "roots.pem"), ("-untrusted", "between.pem")):
        if pools[name]:
            command += [option, name]
    done = subprocess.run([*command, *leaves], cwd=folder, capture_output=True, check=False, timeout=30)
    said = done.stdout.decode().splitlines()
    assert done.returncode in (0, 2), done.stderr.decode()
    return [f"{name}: OK" in said for name in leaves]


def our_reasons(chains: list[Chain], policy: Policy = STRICT) -> list[frozenset[Reason]]:
    """Return what we say of each chain in the pool of all; nothing of those that we take."""
    pool = [c509.from_der(ca) for one in reversed(chains) for ca in one.between]
    roots = [c509.from_der(root) for one in chains for root in one.roots]
    found: list[frozenset[Reason]] = []
    for chain in chains:
        try:
            validate(c509.from_der(chain.leaf), pool, roots, policy=policy, clock=Clock(NOW))
            found.append(frozenset())
        except PathRejected as error:
            found.append(error.reasons)
    return found


def differences(folder: Path, plans: list[Plan]) -> list[tuple[Plan, bool, frozenset[Reason]]]:
    """Return where the verdicts differ: the plan, whether OpenSSL takes it, and what we say."""
    chains = [made(plan, number) for number, plan in enumerate(plans)]
    both = zip(plans, openssl_takes(folder, chains, "-x509_strict"), our_reasons(chains), strict=True)
    return [verdicts for verdicts in both if verdicts[1] is bool(verdicts[2])]


PLANS: Final = st.builds(
    Plan,
    st.integers(0, 3),
    st.sampled_from((*MUTATIONS, *CA_MUTATIONS, *DAMAGES)),
    st.integers(0, 4),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(PLANS, min_size=1, max_size=8))
def test_openssl_and_we_agree_on_chains_with_one_thing_wrong(tmp_path: Path, plans: list[Plan]) -> None:
    assert differences(tmp_path, plans) == []


def test_openssl_and_we_agree_on_every_single_fault_at_every_place(tmp_path: Path) -> None:
    plans = [
        Plan(depth, wrong, place)
        for depth in range(3)
        for wrong in (*MUTATIONS, *CA_MUTATIONS, *DAMAGES)
        for place in range(depth + 2)
    ]
    assert differences(tmp_path, plans) == []


def test_openssl_takes_chains_of_these_tests_and_refuses_others(tmp_path: Path) -> None:
    """Or agreement would mean nothing."""
    plans = [Plan(2, wrong, 1) for wrong in ("nothing", "more usages", "expired", "signature", "missing")]
    chains = [made(plan, number) for number, plan in enumerate(plans)]
    assert openssl_takes(tmp_path, chains, "-x509_strict") == [True, True, False, False, False]


# --- where we differ on purpose ------------------------------------------------------------------------


def chain_of(leaf: Party, *cas: Party) -> Chain:
    return Chain(leaf.der, [ca.der for ca in cas[:-1]], [cas[-1].der])


def difference(folder: Path, chain: Chain, policy: Policy, *options: str) -> tuple[bool, frozenset[Reason]]:
    return openssl_takes(folder, [chain], *options)[0], our_reasons([chain], policy)[0]


def test_openssl_refuses_conforming_part_20_chains_that_we_take(tmp_path: Path) -> None:
    world = EvWorld(PART_20)
    chain = chain_of(world.secc(), world.cpo2, world.cpo1, world.v2g)
    assert difference(tmp_path, chain, SECC_20) == (False, frozenset())
    assert difference(tmp_path, chain, SECC_20, "-ignore_critical") == (True, frozenset())


LOOSE: Final = Policy(name="loose", extensions=Extensions())


@pytest.mark.parametrize(
    ("leaf", "ca", "reason"),
    [
        ({"constraints": CA_TRUE, "usages": ("digital_signature",)}, {}, Reason.LEAF_IS_CA),
        ({"usages": ("key_encipherment",)}, {}, Reason.KEY_USAGE),
        ({"usages": None}, {}, Reason.KEY_USAGE),
        ({"digest": hashes.SHA512}, {}, Reason.ALGORITHM),
        ({}, {"usages": None}, Reason.KEY_USAGE),
        (
            {},
            {"extra": ((x509.NameConstraints(None, [x509.DNSName("a.test")]), True),)},
            Reason.UNHANDLED_CONSTRAINT,
        ),
    ],
    ids=("CA as leaf", "key usage", "no key usage", "hash", "CA key usage", "constraint"),
)
def test_openssl_by_itself_takes_what_we_refuse(
    tmp_path: Path, leaf: dict[str, Any], ca: dict[str, Any], reason: Reason
) -> None:
    top = issue(None, ca_wish("Root"), STYLE)
    sub = top.ca("Sub", **ca)
    taken, found = difference(tmp_path, chain_of(sub.issue(Wish(**leaf)), sub, top), LOOSE)
    assert taken
    assert reason in found


def test_openssl_compares_names_by_meaning_and_we_by_bytes(tmp_path: Path) -> None:
    top = issue(None, ca_wish("Root"), STYLE)
    other_type = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "TEST  Co", ASN1Type.PrintableString),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "Root", ASN1Type.PrintableString),
        ]
    )
    leaf = top.issue(Wish(issuer_name=other_type))
    taken, found = difference(tmp_path, chain_of(leaf, top), LOOSE)
    assert taken
    assert found == {Reason.ISSUER_NAME}


def test_openssl_does_not_go_back_where_we_find_the_right_root(tmp_path: Path) -> None:
    bare: frozenset[type[x509.ExtensionType]] = frozenset(
        {x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier}
    )
    roots = [issue(None, ca_wish("Root", without=bare), STYLE) for _ in range(3)]
    leaves = [one.issue(Wish(cn=f"Leaf {number}", without=bare)) for number, one in enumerate(roots)]
    chains = [Chain(leaf.der, [], [one.der]) for leaf, one in zip(leaves, roots, strict=True)]
    assert our_reasons(chains, LOOSE) == [frozenset()] * 3
    assert openssl_takes(tmp_path, chains).count(True) == 1
