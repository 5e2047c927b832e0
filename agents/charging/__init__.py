"""Charging: a station that is a car's way to the authority, and the car that is plugged in there."""
