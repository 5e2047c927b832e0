"""The CAs above the end entities: which there are for each domain, what their certificates say.

    METERING, ITS      scheme root ─ domain root ─┬─ maker
                                                  └─ operator
    METERING2, SMKI    domain root ─┬─ maker
                                    └─ operator
    EV_MO              OEM root ─ sub-CAs ─ maker        MO root ─ sub-CAs ─ operator
    EV_CPO, EV_CPS     scheme root ─ domain root ─ maker V2G root ─ sub-CAs ─ operator

The last CA of a line issues end entities; an EV line has 0 to 3 sub-CAs, and with none its root issues
them itself, as in a private environment. Roots of one name are one CA, whatever domains stand under it.
"""

from dataclasses import dataclass
from typing import Final

from protocol.c509 import ExtensionId
from protocol.cose import Algorithm
from protocol.labels import Domain
from protocol.profiles.declaration import DAY

MAX_SUB_CAS: Final = 3
SCHEME_ROOT: Final = "root"
"""Name of the root that domains without roots of their own stand under."""
_YEAR: Final = 365 * DAY
_LONG: Final = (40 * _YEAR, 35 * _YEAR, 30 * _YEAR)
"""Root, the CA below it, the issuing one: meters stay in the wall for twenty years and more."""
_V2G: Final = (40 * _YEAR, 4 * _YEAR, 2 * _YEAR)
"""Root, every sub-CA above the last, the last one ([V2G2-011]; the others as the pools have them)."""
_CRITICAL_20: Final = frozenset(
    {
        ExtensionId.AUTHORITY_KEY_IDENTIFIER,
        ExtensionId.SUBJECT_KEY_IDENTIFIER,
        ExtensionId.AUTHORITY_INFO_ACCESS,
        ExtensionId.CRL_DISTRIBUTION_POINTS,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaProfile:
    """One CA of a line."""

    name: str
    """Of its files; CAs of one name are one CA."""
    common_name: str
    """With {organisation} where the owner's short name goes."""
    algorithm: Algorithm = Algorithm.ES256
    component: str | None = None
    """Domain component of the subject."""
    has_organisation: bool = False
    """Whether the subject says O and C."""
    validity: int
    """Seconds."""
    has_path_length: bool = True
    """Whether it says how many CAs may follow."""
    key_identifier_bytes: int = 20
    has_revocation_pointers: bool = False
    critical: frozenset[ExtensionId] = frozenset()
    """Extensions that are critical besides key usage and basic constraints."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The two lines of CAs of one domain, each from its root to the CA that issues end entities."""

    maker: tuple[CaProfile, ...]
    operator: tuple[CaProfile, ...]

    @property
    def root(self) -> CaProfile:
        """The root that the domain's devices pin: the operator's."""
        return self.operator[0]


def lines_of(domain: Domain, sub_cas: int = 2) -> Lines:
    """Return the CAs of a domain.

    Args:
        domain: Any.
        sub_cas: CAs between root and end entity, for EV charging alone.

    Raises:
        ValueError: More or fewer sub-CAs than standards know.
    """
    if not 0 <= sub_cas <= MAX_SUB_CAS:
        msg = f"0 to {MAX_SUB_CAS} sub-CAs"
        raise ValueError(msg)
    role = _ROLES.get(domain)
    if role is not None:
        return _ev_lines(domain, role, sub_cas)
    algorithm = Algorithm.ES384 if domain is Domain.METERING2 else Algorithm.ES256
    key_identifier_bytes = 8 if domain is Domain.SMKI else 20
    above = _own_roots(domain, algorithm, key_identifier_bytes)
    if domain in (Domain.METERING, Domain.ITS):
        above = (_SCHEME, above[0])
    maker, operator = (
        CaProfile(
            name=f"{domain.value}-{who}",
            common_name=f"{{organisation}}-{_SHORT[domain]}{suffix}",
            algorithm=algorithm,
            validity=_LONG[2],
            key_identifier_bytes=key_identifier_bytes,
        )
        for who, suffix in (("maker", " maker"), ("operator", ""))
    )
    return Lines((*above, maker), (*above, operator))


_SCHEME: Final = CaProfile(
    name=SCHEME_ROOT, common_name="{organisation} root", algorithm=Algorithm.ES256, validity=_LONG[0]
)
_SHORT: Final = {Domain.METERING: "M", Domain.METERING2: "M2", Domain.SMKI: "S", Domain.ITS: "I"}


def _own_roots(domain: Domain, algorithm: Algorithm, key_identifier_bytes: int) -> tuple[CaProfile, ...]:
    has_scheme = domain in (Domain.METERING, Domain.ITS)
    return (
        CaProfile(
            name=f"{domain.value}-root",
            common_name=f"{{organisation}} {domain.value} root",
            algorithm=algorithm,
            validity=_LONG[1] if has_scheme else _LONG[0],
            key_identifier_bytes=key_identifier_bytes,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Role:
    """What an EV operator's line is called."""

    root: str
    component: str
    """Domain component of the root."""
    sub_component: str
    """And of the sub-CAs."""
    short: str


_ROLES: Final = {
    Domain.EV_MO: _Role("mo", "MO", "MO", "MO"),
    Domain.EV_CPO: _Role("v2g", "V2G", "V2G", "CPO"),
    Domain.EV_CPS: _Role("v2g", "V2G", "CPS", "CPS"),
    Domain.EV20_MO: _Role("mo20", "MO", "MO", "MO20"),
    Domain.EV20_CPO: _Role("v2g20", "V2G", "V2G", "CPO20"),
    Domain.EV20_CPS: _Role("v2g20", "V2G", "CPS", "CPS20"),
}
_OEM: Final = {
    Domain.EV_MO: _Role("oem", "OEM", "OEM", "OEM"),
    Domain.EV20_MO: _Role("oem20", "OEM", "OEM", "OEM20"),
}


def _ev_lines(domain: Domain, role: _Role, sub_cas: int) -> Lines:
    is_20 = role.short.endswith("20")
    operator = _ev_line(domain, "operator", role, sub_cas, is_20=is_20)
    oem = _OEM.get(domain)
    if oem is not None:
        return Lines(_ev_line(domain, "maker", oem, sub_cas, is_20=is_20), operator)
    # Stations and services: their first certificates are ours, no standard's.
    root = CaProfile(
        name=f"{domain.value}-root", common_name=f"{{organisation}} {domain.value} root", validity=_LONG[1]
    )
    maker = CaProfile(
        name=f"{domain.value}-maker", common_name=f"{{organisation}} {role.short} maker", validity=_LONG[2]
    )
    return Lines((_SCHEME, root, maker), operator)


def _ev_line(domain: Domain, who: str, role: _Role, sub_cas: int, *, is_20: bool) -> tuple[CaProfile, ...]:
    algorithm = Algorithm.ES512 if is_20 else Algorithm.ES256
    critical: frozenset[ExtensionId] = _CRITICAL_20 if is_20 else frozenset()
    key_identifier_bytes = 8 if is_20 else 20
    # The vehicle maker's and the mobility operator's CAs end when they like; cars live long.
    lives = _V2G if role.component == "V2G" else _LONG
    issuing = f"{domain.value}-{who}"
    root = CaProfile(
        name=f"{role.root}-root" if sub_cas else issuing,
        common_name=f"{{organisation}} {role.root.upper()} root",
        algorithm=algorithm,
        component=role.component,
        has_organisation=True,
        validity=lives[0],
        has_path_length=False,
        key_identifier_bytes=key_identifier_bytes,
    )
    subs = tuple(
        CaProfile(
            name=issuing if position == sub_cas else f"{domain.value}-sub{position}-{who}",
            common_name=f"{{organisation}} {role.short} sub-CA {position}",
            algorithm=algorithm,
            component=role.sub_component,
            has_organisation=True,
            validity=lives[2] if position == sub_cas else lives[1],
            key_identifier_bytes=key_identifier_bytes,
            has_revocation_pointers=True,
            critical=critical,
        )
        for position in range(1, sub_cas + 1)
    )
    return (root, *subs)
