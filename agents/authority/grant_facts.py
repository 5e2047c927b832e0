"""What the store knows besides about requests for generated keys: what is granted, and packages given."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from agents.authority.schema import GRANTS, PACKAGES
from protocol.exchange.authority_effects import Lookup
from protocol.exchange.facts import DeviceFacts, Facts, GrantFacts, RememberedCertificate
from protocol.labels import Operation
from protocol.ports import Media

_G: Final = GRANTS.c
_GRANTS = select(_G.device_id, _G.label, _G.id, _G.name, _G.not_after).where(
    _G.device_id.in_(bindparam("devices", expanding=True)), _G.ended_at.is_(None)
)
_PACKAGES = select(PACKAGES.c.digest, PACKAGES.c.encoded).where(
    PACKAGES.c.digest.in_(bindparam("digests", expanding=True))
)


def with_grants(connection: Connection, lookups: Sequence[Lookup], found: list[Facts]) -> list[Facts]:
    """Return the facts with what there is to say where a generated key is asked for.

    The answer to such a request is a package; where that is kept no more, nothing is remembered.
    """
    digests = [lookup.ask.memory for lookup in lookups if lookup.ask.op is Operation.SKG]
    if not digests:
        return found
    devices = {device.id for facts in found if (device := _asking(facts)) is not None}
    grants = {
        (row.device_id, row.label): GrantFacts(row.id, row.name, row.not_after)
        for row in connection.execute(_GRANTS, {"devices": list(devices)})
    }
    packages = {row.digest: row.encoded for row in connection.execute(_PACKAGES, {"digests": digests})}
    told: list[Facts] = []
    for lookup, facts in zip(lookups, found, strict=True):
        if lookup.ask.op is not Operation.SKG:
            told.append(facts)
            continue
        answer, package, device = facts.answer, packages.get(lookup.ask.memory), _asking(facts)
        if isinstance(answer, RememberedCertificate):
            answer = (
                None if package is None else replace(answer, encoded=package, media=Media.CONTRACT_PACKAGE)
            )
        grant = None if device is None else grants.get((device.id, lookup.ask.label))
        told.append(replace(facts, answer=answer, grant=grant))
    return told


def _asking(facts: Facts) -> DeviceFacts | None:
    return facts.registered if facts.signer is None else facts.signer.device
