"""EV charging (ISO 15118): names, wrapped contract keys, and the package that brings them to a car.

Arithmetic and formats only: ephemeral keys and initialisation vectors come in as arguments.
"""

from protocol.ev.agreement import Agreement, WrappedKey
from protocol.ev.exi_size import ExiBound, bound_exi
from protocol.ev.installation import Edition, Installation
from protocol.ev.names import Emaid, Evseid, Pcid, Seccid
from protocol.ev.package import MAX_PACKAGE_BYTES, CpsPackage, check, request_digest

__all__ = [
    "MAX_PACKAGE_BYTES",
    "Agreement",
    "CpsPackage",
    "Edition",
    "Emaid",
    "Evseid",
    "ExiBound",
    "Installation",
    "Pcid",
    "Seccid",
    "WrappedKey",
    "bound_exi",
    "check",
    "request_digest",
]
