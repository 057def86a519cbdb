"""The Kafka wire protocol on the log's engine: existing clients connect with no change.

`registry` says which keys and versions are answered and by what; `connection` moves frames; `codec` reads requests and writes
answers; the `*_keys` files hold the handlers, one family of keys each. `listener.kafka` is what the door opens.
"""
