"""Private keys: where they are kept, and the one object through which they sign."""

from agents.keys.files import load_private_key, save_private_key, write_atomically
from agents.keys.software import SoftwareSigner, generate

__all__ = ["SoftwareSigner", "generate", "load_private_key", "save_private_key", "write_atomically"]
