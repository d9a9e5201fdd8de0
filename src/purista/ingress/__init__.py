"""The ingress: what receives triggers and decides."""

from purista.ingress.decision import Decision
from purista.ingress.ingress import Ingress

__all__ = ["Decision", "Ingress"]
