"""The factory: device identities by the batch, with a signed manifest."""

from agents.factory.batch import Batch, FactoryError, make_batch
from agents.factory.maker import MadeDevice, Maker
from agents.factory.manifest import ManifestEntry, read_manifest

__all__ = ["Batch", "FactoryError", "MadeDevice", "Maker", "ManifestEntry", "make_batch", "read_manifest"]
