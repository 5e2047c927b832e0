"""Labels of EV charging (ISO 15118-2 and ISO 15118-20).

| label                     | holder                     | issued under | domain component |
|---------------------------|----------------------------|--------------|------------------|
| ev-oem, ev20-oem          | car, from the factory      | OEM root     | OEM              |
| ev-contract, ev20-…       | car, per contract          | MO root      | MO               |
| ev-station, ev20-…        | station, from the factory  | scheme root  | none             |
| ev-secc, ev20-secc        | station, shown to cars     | V2G root     | CPO; -20: CSO    |
| ev-service, ev20-service  | provisioning service       | scheme root  | none             |
| ev-cps, ev20-cps          | signs contract packages    | V2G root     | CPS              |

A station that serves both parts has two identities: one certificate cannot serve both. Ed448 and X448 of
part 20 are left out (docs/ev.md says why).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protocol.c509 import ExtensionId, KeyUsage
from protocol.cose import Algorithm
from protocol.labels import Domain, Tier
from protocol.profiles.declaration import DAY, Form, Profile
from protocol.profiles.naming import Naming, SubjectForm

_PART_2: Final[Mapping[str, str]] = MappingProxyType(
    {
        "algorithm": "[V2G2-006], [V2G2-007]",
        "size": "[V2G2-010]",
        "key-usage": "ISO 15118-2 Annex F; [V2G2-822]",
        "basic-constraints": "ISO 15118-2 Annex F",
        "subject": "ISO 15118-2 Annex F; [V2G2-925]",
        "name": "ISO 15118-2 Annex H; [V2G2-108]",
        "critical": "ISO 15118-2 Annex F",
        "path": "[V2G2-009]",
    }
)
_PART_20: Final[Mapping[str, str]] = MappingProxyType(
    {
        "algorithm": "[V2G20-2674]",
        "size": "ISO 15118-20 schema, certificateType",
        "key-usage": "ISO 15118-20 Annex B",
        "basic-constraints": "ISO 15118-20 Annex B",
        "subject": "ISO 15118-20 Annex B; [V2G20-2589]",
        "name": "ISO 15118-20 Annex C",
        "critical": "ISO 15118-20 Annex B",
        "extensions": "[V2G20-2686]",
        "revocation-pointers": "[V2G20-2590]",
        "key-identifiers": "[V2G20-2492]",
    }
)
_CRITICAL_20: Final = frozenset(
    {
        ExtensionId.AUTHORITY_KEY_IDENTIFIER,
        ExtensionId.SUBJECT_KEY_IDENTIFIER,
        ExtensionId.AUTHORITY_INFO_ACCESS,
        ExtensionId.CRL_DISTRIBUTION_POINTS,
    }
)
_OPTIONAL_20: Final = frozenset({ExtensionId.CERTIFICATE_POLICIES, ExtensionId.SUBJECT_INFO_ACCESS})
_SIGNS: Final = KeyUsage.DIGITAL_SIGNATURE
_VEHICLE_LIFE: Final = 20 * 365 * DAY
"""The vehicle maker's choice; a provisioning certificate lives as long as the car."""
_CONTRACT_LIFE: Final = 365 * DAY
"""Four weeks to two years are usual; a contract's own end caps it."""
_LEAF_LIFE: Final = 80 * DAY
"""Stations and provisioning services: two to three months are asked for."""


def _part(  # noqa: PLR0913 (what differs between the two parts, each by its name)
    *,
    prefix: str,
    mo: Domain,
    cpo: Domain,
    cps: Domain,
    number: int,
    algorithm: Algorithm,
    station: str,
    contract_usage: int,
    max_der: int,
    key_identifier_bytes: int,
    critical: frozenset[ExtensionId],
    is_closed: bool,
    requirements: Mapping[str, str],
) -> tuple[Profile, ...]:
    """Return the labels of one part of the standard."""
    algorithms = (algorithm,)
    oem = Profile(
        label=f"{prefix}-oem",
        number=number,
        domain=mo,
        tier=Tier.BOOTSTRAPPING,
        form=Form.X509,
        naming=Naming.PCID,
        subject=SubjectForm(component="OEM", has_organisation=True),
        algorithms=algorithms,
        key_usage=_SIGNS | KeyUsage.KEY_AGREEMENT,
        has_basic_constraints=True,
        key_identifier_bytes=key_identifier_bytes,
        has_revocation_pointers=True,
        critical=critical,
        is_closed=is_closed,
        optional=_OPTIONAL_20 if is_closed else frozenset(),
        max_der=max_der,
        validity=_VEHICLE_LIFE,
        requirements=requirements,
    )
    contract = Profile(
        label=f"{prefix}-contract",
        number=number + 1,
        domain=mo,
        tier=Tier.PARTICIPATION,
        form=Form.X509,
        naming=Naming.EMAID,
        # CN and O alone: part 20 contradicts itself on more, and part 2 does not ask for more.
        subject=SubjectForm(has_organisation=True),
        is_granted_name=True,
        opened_by=(oem.label,),
        rekeyed_by=f"{prefix}-contract",
        confirmed_by=f"{prefix}-contract",
        is_key_generated=True,
        vouched_by=f"{prefix}-cps",
        algorithms=algorithms,
        key_usage=contract_usage,
        has_basic_constraints=True,
        key_identifier_bytes=key_identifier_bytes,
        has_revocation_pointers=True,
        critical=critical,
        is_closed=is_closed,
        optional=_OPTIONAL_20 if is_closed else frozenset(),
        max_der=max_der,
        validity=_CONTRACT_LIFE,
        # A station says "expires soon" from 14 days before the end on; the next one is there long before.
        renew_after=0.85,
        renew_spread=0.08,
        requirements=requirements,
    )
    boots = tuple(
        Profile(
            label=f"{prefix}-{name}",
            number=number + offset,
            domain=domain,
            tier=Tier.BOOTSTRAPPING,
            form=Form.X509,
            naming=naming,
            algorithms=algorithms,
            key_identifier_bytes=20,
        )
        for name, offset, domain, naming in (
            ("station", 2, cpo, Naming.SECCID),
            ("service", 4, cps, Naming.SERVICE),
        )
    )
    leaves = tuple(
        Profile(
            label=label,
            number=number + offset,
            domain=domain,
            tier=Tier.ADDED_VALUE,
            form=Form.X509,
            naming=naming,
            subject=SubjectForm(component=component, has_organisation=True, has_country=True),
            opened_by=(opener,),
            rekeyed_by=label,
            confirmed_by=label,
            algorithms=algorithms,
            key_usage=_SIGNS,
            signs_messages=component != "CPS",
            has_basic_constraints=True,
            key_identifier_bytes=key_identifier_bytes,
            has_revocation_pointers=True,
            critical=critical,
            is_closed=is_closed,
            optional=_OPTIONAL_20 if is_closed else frozenset(),
            max_der=max_der,
            validity=_LEAF_LIFE,
            renew_after=0.7,
            requirements=requirements,
        )
        for label, offset, domain, naming, component, opener in (
            (f"{prefix}-secc", 3, cpo, Naming.SECCID, station, f"{prefix}-station"),
            (f"{prefix}-cps", 5, cps, Naming.SERVICE, "CPS", f"{prefix}-service"),
        )
    )
    return oem, contract, *boots, *leaves


PROFILES: Final = (
    *_part(
        prefix="ev",
        mo=Domain.EV_MO,
        cpo=Domain.EV_CPO,
        cps=Domain.EV_CPS,
        number=30,
        algorithm=Algorithm.ES256,
        station="CPO",
        # The old contract's key unwraps the next one.
        contract_usage=_SIGNS | KeyUsage.NON_REPUDIATION | KeyUsage.KEY_ENCIPHERMENT | KeyUsage.KEY_AGREEMENT,
        max_der=800,
        key_identifier_bytes=20,
        critical=frozenset(),
        is_closed=False,
        requirements=_PART_2,
    ),
    *_part(
        prefix="ev20",
        mo=Domain.EV20_MO,
        cpo=Domain.EV20_CPO,
        cps=Domain.EV20_CPS,
        number=36,
        algorithm=Algorithm.ES512,
        station="CSO",
        contract_usage=_SIGNS | KeyUsage.KEY_AGREEMENT,
        max_der=1600,
        key_identifier_bytes=8,
        critical=_CRITICAL_20,
        is_closed=True,
        requirements=_PART_20,
    ),
)
