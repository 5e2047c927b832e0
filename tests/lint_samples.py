"""Certificates for tests of lint: one that conforms for each label and each CA, to be spoiled in one way.

sample("ev-secc").make()                                   conforms
sample("ev-secc").usage(KeyUsage.KEY_AGREEMENT).make()     one thing is wrong
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from agents.keys import SoftwareSigner, generate
from protocol import c509
from protocol.c509 import Extension, ExtensionId, Name
from protocol.c509.der import oid_from_text
from protocol.cose import Algorithm
from protocol.end_entity import Pointers, extensions_of, key_identifier, subject_of
from protocol.exchange.request import KEY_ALGORITHMS, SIGNATURE_ALGORITHMS
from protocol.labels import Domain, Tier
from protocol.profiles import Form, Naming, Profile, profile_of
from protocol.profiles.authorities import MAX_SUB_CAS, CaProfile, lines_of

NOW: Final = 1_800_000_000
POINTERS: Final = Pointers("http://o.example/", "http://c.example/l")
NAMES: Final = {
    Naming.SYSTEM_TITLE: "54524C0000000001",
    Naming.EUI64: "02-54-52-FF-00-00-00-01",
    Naming.PCID: "TRL000000000000012",
    Naming.EMAID: "DETRLC00000001",
    Naming.SECCID: "DETRLS" + "0" * 33,
    Naming.SERVICE: "cps-1",
}
ISSUER: Final = Name(((22, "V2G"), (-4, "DE"), (8, "Trillium"), (1, "TRL sub-CA")))
NATIVE_ISSUER: Final = Name.common_name("TRL-M")
"""C509 of its own does not tell one kind of string from another, so it has UTF-8 alone."""
CN, COUNTRY, ORGANISATION, UNIT, COMPONENT = 1, 4, 8, 9, 22


@cache
def signer(algorithm: Algorithm, who: str = "device") -> SoftwareSigner:
    """The same key in a whole run; it signs as issuers do."""
    return SoftwareSigner(generate(algorithm), even_y=False)


def uncompressed(key: SoftwareSigner) -> bytes:
    algorithm = KEY_ALGORITHMS[key.algorithm]
    return c509.TbsCertificate(
        3, b"\1", 0, None, 0, 0, Name(), algorithm, _travelling(key.public_key), ()
    ).spki_der[-(2 * _HALF[key.algorithm] + 1) :]


def _travelling(point: bytes) -> bytes:
    return bytes((0x100 - point[0],)) + point[1:]


def _native(name: Name) -> Name:
    return Name(tuple((abs(kind) if isinstance(kind, int) else kind, text) for kind, text in name.attributes))


_HALF: Final = {Algorithm.ES256: 32, Algorithm.ES384: 48, Algorithm.ES512: 66}


@dataclass(frozen=True)
class Sample:
    """A certificate before it is signed."""

    subject: Name
    key: SoftwareSigner
    issuer: SoftwareSigner
    extensions: tuple[Extension, ...]
    issuer_name: Name = ISSUER
    form: int = 3
    not_before: int = NOW
    not_after: int | None = None
    serial: int = 0x1234567890
    signature_algorithm: int | None = None
    profile: Profile | None = None

    def make(self) -> c509.Certificate:
        """Sign it."""
        is_foreign = self.form == c509.NATIVE and self.issuer_name == ISSUER
        tbs = c509.build_certificate(
            type=self.form,
            serial=self.serial,
            issuer=NATIVE_ISSUER if is_foreign else self.issuer_name,
            subject=_native(self.subject) if self.form == c509.NATIVE else self.subject,
            not_before=self.not_before,
            not_after=self.not_after,
            public_key=uncompressed(self.key),
            public_key_algorithm=KEY_ALGORITHMS[self.key.algorithm],
            signature_algorithm=self.signature_algorithm
            if self.signature_algorithm is not None
            else SIGNATURE_ALGORITHMS[self.issuer.algorithm],
            extensions=self.extensions,
        )
        return tbs.with_signature(self.issuer.sign(tbs.to_be_signed()))

    def but(self, **changes: Any) -> "Sample":
        return replace(self, **changes)

    def find(self, number: int | bytes) -> Extension | None:
        return next((found for found in self.extensions if found.id == number), None)

    def without(self, *numbers: int) -> "Sample":
        return self.but(extensions=tuple(found for found in self.extensions if found.id not in numbers))

    def having(self, number: int | bytes, value: object, *, critical: bool | None = None) -> "Sample":
        """Put an extension in, or another value into it."""
        old = self.find(number)
        is_critical = (old is not None and old.critical) if critical is None else critical
        new = Extension(number, is_critical, value)
        if old is None:
            return self.but(extensions=(*self.extensions, new))
        return self.but(extensions=tuple(new if found is old else found for found in self.extensions))

    def usage(self, *bits: int) -> "Sample":
        return self.having(ExtensionId.KEY_USAGE, sum(bits), critical=True)

    def criticality(self, number: int) -> "Sample":
        """Turn an extension's criticality round."""
        old = self.find(number)
        assert old is not None
        return self.having(number, old.value, critical=not old.critical)

    def with_attribute(self, kind: int, text: str | None, *, more: bool = False) -> "Sample":
        """Give an attribute another text, none at all, or one more."""
        kept = [one for one in self.subject.attributes if more or abs(int(one[0])) != kind]
        subject = Name((*kept, *([] if text is None else [(kind, text)])))
        is_root = self.issuer_name == self.subject
        return self.but(subject=subject, issuer_name=subject if is_root else self.issuer_name)


def issuing(profile: Profile) -> CaProfile:
    """The CA that issues a label's certificates."""
    lines = lines_of(profile.domain)
    return (lines.maker if profile.tier is Tier.BOOTSTRAPPING else lines.operator)[-1]


def sample(label: str, *, algorithm: Algorithm | None = None) -> Sample:
    """What an issuer here makes under `label`."""
    profile = profile_of(label)
    key = signer(algorithm or profile.algorithms[0])
    authority = issuing(profile)
    issuer = signer(authority.algorithm, "issuer")
    name = NAMES[profile.naming]
    return Sample(
        subject=subject_of(profile, name, ISSUER),
        key=key,
        issuer=issuer,
        extensions=extensions_of(
            profile,
            name,
            public_key=uncompressed(key),
            issuer_key_identifier=key_identifier(uncompressed(issuer), authority.key_identifier_bytes),
            pointers=POINTERS,
        ),
        form=int(profile.form),
        issuer_name=ISSUER if profile.form is Form.X509 else NATIVE_ISSUER,
        not_before=NOW - profile.backdate,
        not_after=None if profile.validity is None else NOW + profile.validity,
        profile=profile,
    )


@cache
def authorities() -> dict[tuple[str, bool], tuple[CaProfile, CaProfile | None, int, Domain]]:
    """By name and whether it is a root: a CA, the one above it, how many are below it, its domain."""
    found: dict[tuple[str, bool], tuple[CaProfile, CaProfile | None, int, Domain]] = {}
    for domain in Domain:
        for sub_cas in range(MAX_SUB_CAS + 1):
            for line in (lines_of(domain, sub_cas).maker, lines_of(domain, sub_cas).operator):
                for at, authority in enumerate(line):
                    above = line[at - 1] if at else None
                    found[authority.name, at == 0] = (authority, above, len(line) - 1 - at, domain)
    return found


def authority_sample(name: str, *, is_root: bool) -> Sample:
    """A CA's certificate as its declaration has it."""
    authority, above, below, _ = authorities()[name, is_root]
    key = signer(authority.algorithm, "ca")
    issuer = key if above is None else signer(above.algorithm, "issuer")
    attributes = [(1, authority.common_name.format(organisation="TRL"))]
    if authority.has_organisation:
        attributes = [(-4, "DE"), (8, "TRL"), *attributes]
    if authority.component is not None:
        attributes = [(22, authority.component), *attributes]
    subject = Name(tuple(attributes))
    return Sample(
        subject=subject,
        key=key,
        issuer=issuer,
        issuer_name=subject if above is None else ISSUER,
        extensions=tuple(_authority_extensions(authority, above, below, key, issuer)),
        not_before=NOW,
        not_after=NOW + authority.validity,
    )


def _authority_extensions(
    authority: CaProfile, above: CaProfile | None, below: int, key: SoftwareSigner, issuer: SoftwareSigner
) -> Iterable[Extension]:
    def said(number: ExtensionId, value: object) -> Extension:
        return Extension(number, number in authority.critical, value)

    limit = below if authority.has_path_length else -1
    yield Extension(ExtensionId.BASIC_CONSTRAINTS, critical=True, value=limit)
    yield Extension(ExtensionId.KEY_USAGE, critical=True, value=32 | 64)
    policy = c509.PolicyInformation(oid_from_text("1.3.6.1.4.1.99999.2"))
    yield Extension(ExtensionId.CERTIFICATE_POLICIES, critical=False, value=(policy,))
    own = key_identifier(uncompressed(key), authority.key_identifier_bytes)
    yield said(ExtensionId.SUBJECT_KEY_IDENTIFIER, own)
    if above is not None:
        upper = key_identifier(uncompressed(issuer), above.key_identifier_bytes)
        yield said(ExtensionId.AUTHORITY_KEY_IDENTIFIER, upper)
    if authority.has_revocation_pointers:
        yield said(ExtensionId.AUTHORITY_INFO_ACCESS, ((1, POINTERS.ocsp),))
        yield said(ExtensionId.CRL_DISTRIBUTION_POINTS, (c509.DistributionPoint((POINTERS.crl,)),))
