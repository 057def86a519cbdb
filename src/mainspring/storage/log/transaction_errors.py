"""What the transaction coordinator refuses, beside what all do, each under the name and number that Kafka gives it."""

from mainspring.storage.log.coordinator_errors import CoordinatorError


class TransactionError(CoordinatorError):
    status, type, title = 409, "log/transaction", "The transaction coordinator refuses this"


class InvalidTxnState(TransactionError):
    type, title = "log/invalid-txn-state", "The transaction is not in a state that allows this"
    kafka_code = 48


class InvalidProducerIdMapping(TransactionError):
    type, title = "log/invalid-producer-id-mapping", "The transactional id belongs to another producer"
    kafka_code = 49


class InvalidTransactionTimeout(TransactionError):
    status, type, title = (
        422,
        "log/invalid-transaction-timeout",
        "The transaction timeout is not within the allowed range",
    )
    kafka_code = 50


class ConcurrentTransactions(TransactionError):
    status, type, title = 503, "log/concurrent-transactions", "The transaction before is still being ended; try again"
    kafka_code = 51


class ProducerFenced(TransactionError):
    type, title = "log/producer-fenced", "A newer producer with this transactional id has taken over"
    kafka_code = 90


class TransactionalIdNotFound(TransactionError):
    status, type, title = 404, "log/transactional-id-not-found", "There is no such transactional id"
    kafka_code = 105


class TooManyTransactionalIds(TransactionError):
    """Kafka's POLICY_VIOLATION: clients give up, and do not try for ever."""

    status, type, title = 507, "log/too-many-transactional-ids", "There are as many transactional ids as there may be"
    kafka_code = 44


class TransactionAbortable(TransactionError):
    type, title = "log/transaction-abortable", "The transaction must be aborted; a new one may begin"
    kafka_code = 120
