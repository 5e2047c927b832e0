"""A bad network on purpose: proxies that drop, repeat and reorder datagrams and MQTT messages.

The lab and the tests put them between devices and authorities. The cores (`faults`, `mqtt_link`) know
neither sockets nor clocks; `udp` and `mqtt` carry bytes for them.
"""

from agents.proxy.faults import Counts, Faults
from agents.proxy.mqtt import serve_mqtt
from agents.proxy.udp import serve_udp

__all__ = ["Counts", "Faults", "serve_mqtt", "serve_udp"]
