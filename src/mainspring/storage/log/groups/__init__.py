"""Coordinators of groups: who reads which partition, and how far each group has come.

Every coordinator is a pure state machine (`classic`, `consumer`, `share`, `offsets`): a message or a tick goes in with the
time, answers and records come out. `service.Groups` binds them to the engine: a transition is written to `__consumer_offsets`,
and its answer leaves when that record is durable. Kafka clients come by `kafka/group_keys.py`; Python in this process so:

    groups = Groups(engine, clock, settings, random)              # await groups.start(); await groups.stop()

    member = groups.member("billing", ["orders"], on_assigned=load, on_revoked=save)
    await member.start()                        # joins; returns when the first assignment has been handed over
    member.assignment                           # frozenset[tuple[str, int]]: (topic, partition) owned now
    await member.changed()                      # returns when the assignment is another one, or the member is closed
    await member.commit({("orders", 0): 42})    # the next offset to read; raises LogError where the member lost its generation
    await member.committed([("orders", 0)])     # {("orders", 0): 42}, None where nothing was committed
    member.group, member.member_id, member.epoch
    await member.close()                        # on_revoked for what it owns, then leaves

`on_assigned(partitions)` and `on_revoked(partitions)` are awaited before hand-over: nobody owns a partition before its last
owner's `on_revoked` has returned, unless that owner was silent for the session's or the rebalance's time.
`on_lost(partitions)` is called instead of `on_revoked` where the partitions are already another's.

    await groups.commit(group, {("orders", 0): 42})               # without a membership: offset reset, only in an empty group
    await groups.committed(group, partitions=None)                # every partition where None
    groups.list(), await groups.describe(group), await groups.delete(group)
"""
