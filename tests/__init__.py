"""Tests; a package so that `tests.world` is ours, not the one that a dependency installs by mistake."""
