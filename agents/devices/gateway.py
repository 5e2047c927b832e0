"""A vehicle's gateway: signs what the vehicle measures with its enrollment credential."""

from typing import Final

from agents.devices.actor import Actor
from agents.devices.readings import GatewayReadings

GATEWAY: Final = Actor(
    bootstrap="its-boot",
    labels=("its-enroll",),
    stream="telemetry",
    body=lambda name, index: GatewayReadings(name).body(index),
)
