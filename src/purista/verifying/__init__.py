"""Verifying: who sent a request. The port, and one module for each kind of credentials."""

from purista.verifying.port import Caller, Incoming, Verifier, verified

__all__ = ["Caller", "Incoming", "Verifier", "verified"]
