"""Recognise what a file holds and explain it in words. No I/O, no clock; private keys are never shown."""

from agents.inspect.finding import Field, Finding, NotRecognised
from agents.inspect.given import Given, given_certificate
from agents.inspect.recognise import MAX_BYTES, inspect

__all__ = ["MAX_BYTES", "Field", "Finding", "Given", "NotRecognised", "given_certificate", "inspect"]
