"""DLMS/COSEM keys (IEC 62056): suites, key agreement, key transfer, general-signing, rollover.

Arithmetic and formats alone: no I/O, no clock, no randomness. Ephemeral keys and transaction ids are
arguments; secrets are handled by `cryptography` and nothing else. See docs/metering.md for what of it is
certain and what is a setting.
"""
