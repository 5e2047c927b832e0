"""The factory: device identities by the batch, with a signed manifest."""

from agents.factory.batch import Batch, Finished, WrongRows, make_batch, make_order
from agents.factory.bundle import Bundle
from agents.factory.maker import MadeDevice, Maker
from agents.factory.manifest import Manifest, ManifestEntry, Origin, read_manifest
from agents.factory.order import FactoryError, Item, Order, check_inventory, counted, from_sheet, numbering_of
from agents.factory.requests import from_requests
from agents.factory.sheet import Wrong

__all__ = [
    "Batch", "Bundle", "FactoryError", "Finished", "Item", "MadeDevice", "Maker", "Manifest", "ManifestEntry",
    "Order", "Origin", "Wrong", "WrongRows", "check_inventory", "counted", "from_requests", "from_sheet",
    "make_batch", "make_order", "numbering_of", "read_manifest",
]  # fmt: skip
