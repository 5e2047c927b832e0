"""What the lab's tour saw of each label: one row a label, in the order in which they came."""

from dataclasses import asdict, dataclass, field
from typing import Any

from protocol import c509
from protocol.lint import lint
from protocol.profiles import profile_of


@dataclass(slots=True)
class Row:
    """One label."""

    label: str
    tier: int
    issued: int = 0
    rekeyed: int = 0
    transferred: int = 0
    """Certificates that ended because their device changed its owner."""
    revoked: int = 0
    refused: int = 0
    """Times that an ended certificate, or a right that is none any more, was told no."""
    c509_bytes: int = 0
    der_bytes: int = 0
    """0 for a native certificate, which has no DER."""
    deviations: tuple[str, ...] = ()
    """What lint says of the last one; empty: it is as its profile says."""


@dataclass(slots=True)
class Ledger:
    """The tour's book."""

    rows: dict[str, Row] = field(default_factory=dict)

    def row(self, label: str) -> Row:
        """Return the row of `label`, a new one if need be."""
        found = self.rows.get(label)
        if found is None:
            found = self.rows[label] = Row(label, int(profile_of(label).tier))
        return found

    def issued(self, label: str, certificate: bytes, *, is_rekey: bool = False) -> None:
        """Enter a certificate that a device or the factory got."""
        row = self.row(label)
        if is_rekey:
            row.rekeyed += 1
        else:
            row.issued += 1
        read = c509.decode_certificate(certificate)
        row.c509_bytes = len(certificate)
        der = None if read.type == c509.NATIVE else read.to_der()
        row.der_bytes = 0 if der is None else len(der)
        row.deviations = tuple(str(one) for one in lint(read, der, profile_of(label)) if one.is_error)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the rows as JSON has them."""
        return [asdict(row) for row in self.rows.values()]
