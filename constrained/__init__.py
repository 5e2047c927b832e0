"""The CoAP world: server and client sides on aiocoap, and the arithmetic of constrained links."""
