"""The ingress: what receives triggers and decides."""

from purista.ingress.answer import Answer, answer
from purista.ingress.decision import Decision
from purista.ingress.ingress import Ingress
from purista.ingress.port import TriggerIngress

__all__ = ["Answer", "Decision", "Ingress", "TriggerIngress", "answer"]
