"""Recognise what a file holds and explain it in words. No I/O, no clock; private keys are never shown."""

from agents.inspect.finding import Field, Finding, NotRecognised
from agents.inspect.recognise import MAX_BYTES, inspect

__all__ = ["MAX_BYTES", "Field", "Finding", "NotRecognised", "inspect"]
