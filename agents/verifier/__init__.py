"""The verifier: signed messages in, good ones out."""

from agents.verifier.agent import Verifier, open_verifier
from agents.verifier.ledger import VerifierStats
from agents.verifier.outlet import Publish
from agents.verifier.ticket import Verdict, VerifiedMessage

__all__ = ["Publish", "Verdict", "VerifiedMessage", "Verifier", "VerifierStats", "open_verifier"]
