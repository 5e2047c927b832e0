"""Long-lived actors: authorities, device agents, the verifier, and the command line that wires them."""
