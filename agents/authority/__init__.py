"""The authority: registration decides, the issuer holds the CA key, the store remembers.

`initialise` makes a directory, `open_authority` answers requests from it, `open_store` and the functions of
`agents.authority.inventory` manage it, also beside a running one; `maker_issuer` is its factory's side.
"""

from agents.authority.agent import AuthorityAgent, open_authority, open_store, verify_audit
from agents.authority.audit import AuditBroken, Head
from agents.authority.directory import SignerDirectory
from agents.authority.hierarchy import initialise
from agents.authority.inventory import (
    CertificateSummary,
    DeviceDetail,
    DeviceSummary,
    InventoryError,
    NewDevice,
    list_devices,
    register_devices,
    revoke,
    show_device,
)
from agents.authority.layout import BadDirectory, Layout, Settings, read_settings
from agents.authority.maker import MakerIssuer, maker_issuer
from agents.authority.quota import Limits, Rate
from agents.authority.reach import Fetches, Listed, Reached, Removal, reach
from agents.authority.removals import confirm_removal
from agents.authority.schema import WrongStore
from agents.authority.store import Store

__all__ = [
    "AuditBroken",
    "AuthorityAgent",
    "BadDirectory",
    "CertificateSummary",
    "DeviceDetail",
    "DeviceSummary",
    "Fetches",
    "Head",
    "InventoryError",
    "Layout",
    "Limits",
    "Listed",
    "MakerIssuer",
    "NewDevice",
    "Rate",
    "Reached",
    "Removal",
    "Settings",
    "SignerDirectory",
    "Store",
    "WrongStore",
    "confirm_removal",
    "initialise",
    "list_devices",
    "maker_issuer",
    "open_authority",
    "open_store",
    "reach",
    "read_settings",
    "register_devices",
    "revoke",
    "show_device",
    "verify_audit",
]
