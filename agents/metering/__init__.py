"""Meters and head-ends at work: the mail between them, and the rollover of their keys."""
