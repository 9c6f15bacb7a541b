"""Redis as Celery's broker, with one fault of kombu 5.7 mended: a worker that Redis left while it held messages.

kombu takes a message off its list of unacknowledged ones only after Redis was told. Where Redis is gone at that moment
the error is logged and the message stays on the list for ever. Once as many stay as a worker may hold, it asks for no
more, has no open request at which it could notice that its connection is lost, and waits until it is ended.
"""

from kombu.transport import TRANSPORT_ALIASES, redis, virtual


class _QoS(redis.QoS):
    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except redis.Transport.connection_errors:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]  # asks nothing of Redis
            raise


class _Channel(redis.Channel):
    QoS = _QoS


class Transport(redis.Transport):
    """kombu's own, whose workers go on after they lost Redis."""

    Channel = _Channel


def use_mended_transport() -> None:
    """Have every connection of this process to a redis:// URL use it; call it before the first one is made."""
    ours = f"{__name__}:{Transport.__name__}"
    TRANSPORT_ALIASES.update({"redis": ours, "rediss": ours})
