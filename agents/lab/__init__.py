"""A whole fleet on one machine: the programs that would be on several, started together and watched.

The lab is nobody's insider: it runs the same commands that people type and reads what they print.
"""
