"""The transaction coordinator: all or nothing across partitions and consumer offsets, and never for ever.

    transactions = Transactions(engine, groups, clock, settings, random)      # await transactions.start(); await transactions.stop()

    async with transactions.transaction("copier") as t:          # fences every other holder of the id; commits, or aborts on an error
        position = await t.append("out", 0, [(key, value, headers, timestamp_ms)])      # gives the first offset; -1 ms: now
        await t.commit_offsets(member, {("in", 0): 43})          # `member` of groups.member(...), or a group's name
        await t.abort()                                          # optional: ends it here, the block then commits nothing

    producer = await transactions.producer("copier")             # the same without a new fence at each transaction
    async with producer.transaction() as t: ...

For the Produce handler, before it appends a transactional batch (never waits; the returned future, where there is one, must be
awaited before the answer; raises LogError with its kafka_code):
    transactions.admit(transactional_id, producer_id, epoch, topic, partition, implicit=version >= 12) -> Awaitable[None] | None
"""
