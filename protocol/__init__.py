"""Wire formats, profiles and exchanges: no I/O, no clock, no randomness, no threads, no logs."""
