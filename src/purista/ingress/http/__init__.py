"""HTTP: the entry point for schedulers that send requests."""

from purista.ingress.http.app import ingress_app
from purista.ingress.http.limits import Limits
from purista.ingress.http.server import server_config

__all__ = ["Limits", "ingress_app", "server_config"]
