"""A smart meter: signs its load profile with the digital-signature key of its present operator."""

from typing import Final

from agents.devices.actor import Actor
from agents.devices.readings import MeterReadings

METER: Final = Actor(
    bootstrap="meter-boot",
    labels=("meter-ds",),
    stream="readings",
    body=lambda name, index: MeterReadings(name).body(index),
)
"""Enrolls what it signs with."""

FULL_METER: Final = Actor(
    bootstrap=METER.bootstrap,
    labels=("meter-ds", "meter-ka", "meter-tls"),
    stream=METER.stream,
    body=METER.body,
)
"""The same with every key of DLMS/COSEM's security suite: signature, key agreement, TLS."""
