"""The policy of each label, held against certificates of Trillium's own issuers and CAs."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agents.authority import pki
from agents.authority.issuer import Issuer, ToBeIssued
from agents.keys import SoftwareSigner, generate
from protocol import c509
from protocol.end_entity import Pointers
from protocol.labels import Domain, Tier
from protocol.profiles import PROFILES, NameSpace, Naming, Prefix, Profile, name_space, profile_of
from protocol.profiles.authorities import CaProfile, lines_of
from protocol.validator import Path, PathRejected, Policy, Reason, policy_of, validate
from protocol.validity import Clock
from tests.ev_policies import CONTRACT_2, CONTRACT_20, CPS_2, CPS_20, SECC_2, SECC_20, SMKI_DS
from tests.ev_world import NOW, PART_20, EvWorld, Party, Style, Wish, root

NAMES: Final = {
    Naming.SYSTEM_TITLE: "54524C0000000001",
    Naming.EUI64: "02-54-52-00-00-00-00-01",
    Naming.PCID: "TRL00000000000001",
    Naming.EMAID: "DETRLC000000001",
    Naming.SECCID: "DETRLS0123456789ABCDEF0123456789ABCDEF",
    Naming.SERVICE: "cps-1",
}
OURS: Final = {
    NameSpace.FLAG: Prefix.parse(NameSpace.FLAG, "TRL"),
    NameSpace.OUI: Prefix.parse(NameSpace.OUI, "02-54-52"),
    NameSpace.WMI: Prefix.parse(NameSpace.WMI, "TRL"),
}
POINTERS: Final = Pointers("http://pki.test/ocsp", "http://pki.test/crl")
CLOCK: Final = Clock(NOW)
OWNER: Final = pki.Owner("TRL", "ZZ")


def is_maker_s(profile: Profile) -> bool:
    return profile.tier is Tier.BOOTSTRAPPING


def read(ca: pki.Ca) -> c509.Certificate:
    return c509.from_der(ca.certificate.public_bytes(Encoding.DER))


@dataclass(frozen=True)
class Line:
    """One line of CAs, and who issues under it."""

    cas: tuple[pki.Ca, ...]

    @property
    def certificates(self) -> tuple[c509.Certificate, ...]:
        return tuple(read(ca) for ca in self.cas)

    def issue(self, profile: Profile, name: str | None = None) -> c509.Certificate:
        (algorithm,) = profile.algorithms
        signer = SoftwareSigner(generate(algorithm), even_y=False)
        issuer = Issuer(self.cas[-1].key, self.certificates[-1], POINTERS)
        name = name or NAMES[profile.naming]
        end = None if profile.validity is None else min(NOW + profile.validity, issuer.not_after)
        order = ToBeIssued(profile, b"\x07" * 8, name, NOW - 300, end, algorithm, signer.public_key)
        return c509.decode_certificate(issuer.issue(order))


def made(line: tuple[CaProfile, ...], labels: tuple[str, ...], prefixes: tuple[Prefix, ...] = ()) -> Line:
    cas: list[pki.Ca] = []
    for position, profile in enumerate(line):
        cas.append(
            pki.make_ca(
                profile,
                OWNER,
                cas[-1] if cas else None,
                labels=labels,
                prefixes=prefixes if profile is line[-1] else (),
                path_length=len(line) - 1 - position,
                pointers=POINTERS if cas else None,
                now=NOW,
            )
        )
    return Line(tuple(cas))


@cache
def line_of(domain: Domain, *, makers: bool, sub_cas: int = 2) -> Line:
    lines = lines_of(domain, sub_cas)
    labels = tuple(label for label, p in PROFILES.items() if p.domain is domain and is_maker_s(p) is makers)
    spaces = {name_space(profile_of(label).naming) for label in labels} - {None}
    prefixes = tuple(OURS[space] for space in sorted(spaces, key=str) if space) if makers else ()
    return made(lines.maker if makers else lines.operator, labels, prefixes)


def taken(leaf: c509.Certificate, line: Line, policy: Policy) -> Path:
    root, *between = line.certificates
    return validate(leaf, between, [root], policy=policy, clock=CLOCK)


def reasons(leaf: c509.Certificate, line: Line, policy: Policy) -> frozenset[Reason]:
    with pytest.raises(PathRejected) as caught:
        taken(leaf, line, policy)
    return caught.value.reasons


@pytest.mark.parametrize("label", PROFILES)
def test_what_our_issuers_make_is_taken_under_every_label(label: str) -> None:
    profile = profile_of(label)
    line = line_of(profile.domain, makers=is_maker_s(profile))
    path = taken(line.issue(profile), line, policy_of(profile))
    assert len(path.certificates) == len(line.cas) + 1
    assert taken(path.leaf, line, policy_of(profile, is_ours=False)) == path


@pytest.mark.parametrize("sub_cas", [0, 1, 2, 3])
def test_any_number_of_sub_cas_is_taken(sub_cas: int) -> None:
    for label in ("ev-secc", "ev20-contract"):
        profile = profile_of(label)
        line = line_of(profile.domain, makers=False, sub_cas=sub_cas)
        path = taken(line.issue(profile), line, policy_of(profile))
        assert len(path.intermediates) == sub_cas


def test_no_label_s_certificate_passes_for_another_s() -> None:
    by_domain: dict[Domain, list[Profile]] = {}
    for profile in PROFILES.values():
        by_domain.setdefault(profile.domain, []).append(profile)
    for profiles in by_domain.values():
        for profile in profiles:
            line = line_of(profile.domain, makers=is_maker_s(profile))
            leaf = line.issue(profile)
            for other in profiles:
                if other is not profile and _differs(profile, other):
                    assert reasons(leaf, line, policy_of(other)), (profile.label, other.label)


def _differs(one: Profile, other: Profile) -> bool:
    """Whether a certificate can tell: two labels of one form may stand under one CA that has both."""
    if is_maker_s(one) is not is_maker_s(other):
        return True
    fields = ("key_usage", "extended_key_usage", "subject", "naming", "form", "algorithms", "policies")
    return any(getattr(one, name) != getattr(other, name) for name in fields)


def test_a_ca_of_another_label_issues_nothing_under_this_one() -> None:
    profile = profile_of("ev-cps")
    line = made(lines_of(Domain.EV_CPS).operator, ("ev-secc",))
    leaf = line.issue(profile)
    assert reasons(leaf, line, policy_of(profile)) == {Reason.LABEL}
    assert taken(leaf, line, policy_of(profile, is_ours=False))
    alone = made(lines_of(Domain.EV_CPS, 0).operator, ("ev-secc",))
    assert reasons(alone.issue(profile), alone, policy_of(profile)) == {Reason.LABEL}


@pytest.mark.parametrize("label", ["meter-boot", "ev-oem", "smki-boot"])
def test_a_maker_gives_names_of_its_own_prefix_only(label: str) -> None:
    profile = profile_of(label)
    line = line_of(profile.domain, makers=True)
    name = NAMES[profile.naming]
    others = {"54524C": "4B4550", "02-54-52": "02-00-00", "TRL": "WXY"}
    for ours, theirs in others.items():
        if name.startswith(ours):
            foreign = line.issue(profile, theirs + name[len(ours) :])
            assert reasons(foreign, line, policy_of(profile)) == {Reason.NAME_NOT_PERMITTED}
    lines = lines_of(profile.domain)
    unlisted = made(lines.maker, (label,))
    assert reasons(unlisted.issue(profile), unlisted, policy_of(profile)) == {Reason.NAME_NOT_PERMITTED}
    assert taken(unlisted.issue(profile), unlisted, policy_of(profile, is_ours=False))


def test_sentences_cite_the_profile_s_requirement() -> None:
    profile = profile_of("ev-secc")
    line = line_of(Domain.EV_CPS, makers=False)
    with pytest.raises(PathRejected, match=r"\[V2G2-925\]") as caught:
        taken(line.issue(profile_of("ev-cps")), line, policy_of(profile))
    assert Reason.ROLE in caught.value.reasons


@pytest.mark.parametrize(
    ("label", "by_hand"),
    [
        ("ev-secc", SECC_2),
        ("ev-cps", CPS_2),
        ("ev-contract", CONTRACT_2),
        ("ev20-secc", replace(SECC_20, max_intermediates=3)),
        ("ev20-cps", CPS_20),
        ("ev20-contract", CONTRACT_20),
    ],
)
def test_our_certificates_keep_the_tables_written_by_hand(label: str, by_hand: Policy) -> None:
    profile = profile_of(label)
    line = line_of(profile.domain, makers=False)
    assert taken(line.issue(profile), line, by_hand)


def test_our_smki_certificates_keep_the_table_written_by_hand() -> None:
    line = line_of(Domain.SMKI, makers=False)
    assert taken(line.issue(profile_of("smki-ds")), line, SMKI_DS)


def foreign(world: EvWorld, leaf: Party, label: str, **named: Any) -> frozenset[Reason]:
    """Why a chain of another scheme is refused under a label; nothing if it is taken."""
    policy = policy_of(profile_of(label), is_ours=False)
    roots = named.get("roots", world.roots)
    try:
        validate(
            leaf.certificate,
            named.get("pool", world.cas),
            roots,
            policy=policy,
            clock=named.get("clock", CLOCK),
        )
    except PathRejected as error:
        return error.reasons
    return frozenset()


OWN: Final = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")
SECC: Final[dict[str, Any]] = {"cn": NAMES[Naming.SECCID]}


def test_foreign_part_20_chains_are_judged_by_the_profile_too() -> None:
    world = EvWorld(PART_20)
    assert not foreign(world, world.secc(**SECC), "ev20-secc")
    assert foreign(world, world.secc(**SECC), "ev-secc")
    assert Reason.ROLE in foreign(world, world.cps(cn="cps-1"), "ev20-secc")
    extra: dict[str, Any] = {"extra": ((OWN, False),), **SECC}
    assert foreign(world, world.secc(**extra), "ev20-secc") == {Reason.EXTENSION_FORBIDDEN}
    no_pointers: dict[str, Any] = {
        "without": frozenset({x509.CRLDistributionPoints, x509.AuthorityInformationAccess}),
        **SECC,
    }
    assert foreign(world, world.secc(**no_pointers), "ev20-secc") == {Reason.EXTENSION_MISSING}


def test_foreign_part_2_chains_are_judged_by_the_profile_too() -> None:
    world = EvWorld()
    assert not foreign(world, world.secc(**SECC), "ev-secc")
    assert foreign(world, world.secc(world.cpo1, **SECC), "ev-secc") == {Reason.PATH_LENGTH}
    assert foreign(world, world.secc(pointer_path="x" * 250, **SECC), "ev-secc") == {Reason.TOO_LARGE}
    assert foreign(world, world.secc(world.mo2, **SECC), "ev-secc") == {Reason.ROLE}


def test_foreign_meters_are_judged_by_the_profile_too() -> None:
    world = EvWorld(Style(has_pointers=False))
    top = root("Meters", world.style)
    sub = top.ca("Meters Sub", 0)
    where: dict[str, Any] = {"pool": [sub.certificate], "roots": [top.certificate]}
    wish = Wish(cn=NAMES[Naming.SYSTEM_TITLE], organisation=None, constraints=None)
    assert not foreign(world, sub.issue(wish), "meter-ds", **where)
    other_name = x509.IssuerAlternativeName([x509.DNSName("a.test")])
    found = foreign(world, sub.issue(replace(wish, extra=((other_name, False),))), "meter-ds", **where)
    assert found == {Reason.EXTENSION_FORBIDDEN}
    p384 = ec.generate_private_key(ec.SECP384R1())
    policy = replace(policy_of(profile_of("meter-ds"), is_ours=False), leaf_keys=frozenset({1, 2}))
    with pytest.raises(PathRejected) as caught:
        validate(
            sub.issue(replace(wish, key=p384)).certificate,
            where["pool"],
            where["roots"],
            policy=policy,
            clock=CLOCK,
        )
    assert caught.value.reasons == {Reason.CURVE}
