"""A subscription of Google Pub/Sub in memory: a server made of the SDK's own types, and its client.

`serve` starts a real gRPC server on a free port of this machine; no Google address is asked. Time is the
test's: a deadline passes when the test says so. It must not import purista.

Pages: RPC = https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1 (the words of
google/pubsub_v1/types/pubsub.py), LETTERS = https://cloud.google.com/pubsub/docs/handling-failures.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
from google.cloud.pubsub_v1 import SubscriberClient
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import (
    AcknowledgeRequest,
    ModifyAckDeadlineRequest,
    PubsubMessage,
    ReceivedMessage,
    StreamingPullRequest,
    StreamingPullResponse,
)

NAME = "projects/p/subscriptions/s"


@dataclass
class Held:
    """A message that a client holds: it has to acknowledge it before its deadline."""

    message: PubsubMessage
    attempt: int
    deadlines: list[int] = field(default_factory=list)


@dataclass
class Subscription:
    """What a server holds. RPC: a deadline of 0 makes a message "available for another delivery"."""

    client: SubscriberClient
    address: str
    max_attempts: int | None = None
    held: dict[str, Held] = field(default_factory=dict)
    acked: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    streams: list[StreamingPullRequest] = field(default_factory=list)
    refusals: list[grpc.StatusCode] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ready: "queue.Queue[Held]" = field(default_factory=queue.Queue)
    _broken: threading.Event = field(default_factory=threading.Event)
    _count: int = 0

    def publish(
        self,
        attributes: Mapping[str, str] | None = None,
        data: bytes = b"",
        published: datetime = datetime(2027, 3, 1, tzinfo=UTC),
    ) -> str:
        """Publish a message; returns its id."""
        with self._lock:
            self._count += 1
            name = f"id-{self._count}"
        self._ready.put(
            Held(
                PubsubMessage(
                    data=data,
                    attributes=attributes or {},
                    message_id=name,
                    publish_time=published,
                ),
                1,
            )
        )
        return name

    def pass_deadline(self, message_id: str) -> None:
        """Let the deadline of a message pass that a client holds."""
        with self._lock:
            ack_id = next(key for key, one in self.held.items() if _id(one) == message_id)
            self._again(ack_id)

    def break_off(self) -> None:
        """End the stream that is open, for good."""
        self._broken.set()

    def deadlines(self, message_id: str) -> list[int]:
        """The deadlines that were set for a message in its present delivery, in seconds."""
        with self._lock:
            return [
                n for one in self.held.values() if _id(one) == message_id for n in one.deadlines
            ]

    def names_held(self) -> list[str]:
        """The messages that clients hold."""
        with self._lock:
            return [_id(one) for one in self.held.values()]

    def _again(self, ack_id: str) -> None:
        """LETTERS: after that many attempts a message goes to the dead-letter topic."""
        one = self.held.pop(ack_id)
        if self.max_attempts is not None and one.attempt >= self.max_attempts:
            self.dead.append(_id(one))
        else:
            self._ready.put(Held(one.message, one.attempt + 1))

    def _pull(
        self, requests: Iterator[StreamingPullRequest], context: grpc.ServicerContext
    ) -> Iterator[StreamingPullResponse]:
        asked = next(requests)
        self.streams.append(asked)
        if self.refusals:
            context.abort(self.refusals.pop(0), "not now")
        while context.is_active():
            if self._broken.is_set():
                self._broken.clear()
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "not any more")
            # StreamingPullRequest: with so many messages neither acked nor nacked "the server stops
            # sending more"; a message whose deadline was only put off is one of them.
            if len(self.held) >= asked.max_outstanding_messages > 0:
                time.sleep(0.002)
                continue
            try:
                one = self._ready.get(timeout=0.02)
            except queue.Empty:
                continue
            if not context.is_active():
                self._ready.put(one)
                return
            with self._lock:
                ack_id = f"ack-{_id(one)}-{one.attempt}"
                self.held[ack_id] = one
            attempt = 0 if self.max_attempts is None else one.attempt
            received = ReceivedMessage(ack_id=ack_id, message=one.message, delivery_attempt=attempt)
            yield StreamingPullResponse(received_messages=[received])

    def _acknowledge(self, request: AcknowledgeRequest, context: grpc.ServicerContext) -> Empty:
        with self._lock:
            for ack_id in request.ack_ids:
                one = self.held.pop(ack_id, None)
                if one is not None:
                    self.acked.append(_id(one))
        return Empty()

    def _modify(self, request: ModifyAckDeadlineRequest, context: grpc.ServicerContext) -> Empty:
        with self._lock:
            for ack_id in request.ack_ids:
                if ack_id not in self.held:
                    continue
                if request.ack_deadline_seconds:
                    self.held[ack_id].deadlines.append(request.ack_deadline_seconds)
                else:
                    self._again(ack_id)
        return Empty()


def _id(one: Held) -> str:
    return str(one.message.message_id)


@contextmanager
def serve(max_attempts: int | None = None) -> Iterator[Subscription]:
    """A server on a free port, stopped when the context ends; with a dead-letter policy or without."""
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    port = server.add_insecure_port("127.0.0.1:0")
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    client = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
    subscription = Subscription(client, f"127.0.0.1:{port}", max_attempts)
    server.add_generic_rpc_handlers((_handlers(subscription),))
    server.start()
    try:
        yield subscription
    finally:
        client.close()
        server.stop(grace=None).wait()


def _handlers(served: Subscription) -> grpc.GenericRpcHandler:
    unary: Mapping[str, tuple[Callable[..., Any], Any]] = {
        "Acknowledge": (served._acknowledge, AcknowledgeRequest),
        "ModifyAckDeadline": (served._modify, ModifyAckDeadlineRequest),
    }
    calls = {
        name: grpc.unary_unary_rpc_method_handler(
            call, request.deserialize, Empty.SerializeToString
        )
        for name, (call, request) in unary.items()
    }
    calls["StreamingPull"] = grpc.stream_stream_rpc_method_handler(
        served._pull, StreamingPullRequest.deserialize, StreamingPullResponse.serialize
    )
    return grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", calls)
