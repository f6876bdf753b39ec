"""What goes wrong with Kafka, in words that say what to do."""

from __future__ import annotations

import logging

from ostinato.cep.connectors.base import ConnectorError, SinkError, SourceError


class KafkaUnavailableError(SourceError):
    """No broker, or not the one that is needed, answers. It is worth trying again."""


class NotAMemberError(KafkaUnavailableError):
    """The group is being rebalanced, or does not know us: nothing may be taken over until it does."""


class ProducerLostError(ConnectorError):
    """A producer that must not be used any more: nobody knows what became of its last request, or the broker has
    refused it. Its transaction is settled by the next producer with its transactional id."""


class FencedProducerError(ProducerLostError):
    """Another producer with the same transactional id has taken over."""


class TooLargeError(SinkError):
    """A record is larger than may be written: that would be so at every attempt."""


class LostOffsetsError(SourceError):
    """Records that should be read next have been deleted."""


def quiet_clients() -> None:
    """Keep aiokafka's log messages off standard error where nobody has asked for them: what matters is said by us."""
    log = logging.getLogger("aiokafka")
    if not log.handlers:
        log.addHandler(logging.NullHandler())


def explain(error: BaseException, place: str) -> ConnectorError:
    """An error of aiokafka as one of ours; `place` is the cluster or the topic.

    >>> from aiokafka.errors import TopicAuthorizationFailedError
    >>> print(explain(TopicAuthorizationFailedError(), "topic logins at kafka:9092"))
    topic logins at kafka:9092: not authorized; allow it by an ACL (kafka-acls.sh --add), or check the user
    """
    import aiokafka.errors as kafka

    if isinstance(error, ConnectorError):
        return error
    said = str(error) or type(error).__name__
    if isinstance(error, (kafka.TopicAuthorizationFailedError, kafka.GroupAuthorizationFailedError)) or (
        "Authorization" in type(error).__name__
    ):
        return SourceError(f"{place}: not authorized; allow it by an ACL (kafka-acls.sh --add), or check the user")
    if isinstance(error, kafka.UnknownTopicOrPartitionError):
        return SourceError(f"{place}: there is no such topic; create it (kafka-topics.sh --create), or check its name")
    if isinstance(error, (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)):
        return TooLargeError(
            f"{place}: a record is larger than may be written ({said}); raise max_request_size of the output, and the "
            "topic's max.message.bytes"
        )
    if isinstance(error, kafka.ProducerFenced):
        return FencedProducerError(f"{place}: another worker has taken over")
    if isinstance(error, (kafka.KafkaConnectionError, kafka.NodeNotReadyError, kafka.RequestTimedOutError)):
        return KafkaUnavailableError(
            f"{place}: no answer ({said}); check that Kafka runs there, bootstrap_servers, and security_protocol"
        )
    if isinstance(error, kafka.KafkaError):
        return SourceError(f"{place}: {said}")
    return SourceError(f"{place}: {type(error).__name__}: {said}")
