"""The authority: registration decides, the issuer holds the CA key, the store remembers."""
