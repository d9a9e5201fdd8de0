"""Bridges to brokers: the ports, and one module for each broker; memory first."""

from purista.bridges.port import (
    DeadLetter,
    DeadLetters,
    Drains,
    EnlistedQueues,
    ErrorReply,
    EventBridge,
    EventBridgeCapabilities,
    Job,
    LeasedJob,
    QueueBridge,
    QueueBridgeCapabilities,
    Receiver,
    Reply,
    Responder,
    Subscription,
)

__all__ = [
    "DeadLetter",
    "DeadLetters",
    "Drains",
    "EnlistedQueues",
    "ErrorReply",
    "EventBridge",
    "EventBridgeCapabilities",
    "Job",
    "LeasedJob",
    "QueueBridge",
    "QueueBridgeCapabilities",
    "Receiver",
    "Reply",
    "Responder",
    "Subscription",
]
