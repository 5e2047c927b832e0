"""The MQTT world: embedded broker, mosquitto configuration, access rules, clients."""
