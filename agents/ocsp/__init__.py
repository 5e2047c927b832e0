"""OCSP (RFC 6960, RFC 5019) and revocation lists over HTTP, for relying parties of the EV world.

http.py        HTTP/1.1 within hard limits; it knows nothing of certificates
site.py        what is at which path
responder.py   answers: made in worker threads, kept until something changes
question.py    what is asked, and who is asked about
credential.py  the signing certificate that each operator CA gives its responder
"""

from agents.ocsp.responder import Responder, open_responder
from agents.ocsp.site import serve

__all__ = ["Responder", "open_responder", "serve"]
