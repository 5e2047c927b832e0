"""The command line: the composition root, where adapters are wired to actors.

Only this room imports adapters and actors together. Modules here import little at the top, and what a
command needs inside the command, so that `trillium --help` does not wait for all of it.
"""
