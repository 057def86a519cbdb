"""A commit of many keys: bodies are stored where nobody sees them, and then one transaction does all of it or nothing."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from mainspring.core.crash import crash_point
from mainspring.storage.objects import moves, versions
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.errors import InvalidRequest
from mainspring.storage.objects.model import Bucket, Deleted, Object, key_bytes
from mainspring.storage.objects.moves import Operation
from mainspring.storage.objects.staging import Staged, StagedPut, Staging, profile_of


async def commit(
    engine: Engine, staging: Staging, bucket: Bucket, operations: Sequence[Operation | StagedPut]
) -> list[Object | Deleted]:
    """Does `operations`, and gives what came of each. Raises what the first refused one raises."""
    if not 1 <= len(operations) <= moves.OPERATIONS_MAX:
        raise InvalidRequest(f"A commit has 1 to {moves.OPERATIONS_MAX} operations")
    async with AsyncExitStack() as stack:
        staged: list[Staged] = []
        plan: list[moves.Put | Operation] = []
        for one in operations:
            if isinstance(one, StagedPut):
                stage = staging.stage(bucket, one.key, one.body, one.size, one.wish)
                staged.append(await stack.enter_async_context(stage))
                plan.append(moves.Put(staged[-1].draft))
            else:
                key_bytes(one.key)
                plan.append(one)
        page = await staging.page_of(staged, profile_of(bucket))
        stack.callback(engine.store.release, page)
        live = sum(len(one.small) for one in staged if one.small)
        stripes = [pair for one in staged for pair in one.stripes] + [(one.stripe, live) for one in page]
        done = await engine.database.write(
            moves.commit, engine.numbers, bucket.name, stripes, plan, engine.settings.part_bytes_min
        )
        crash_point("objects.commit.committed")
    return [one if isinstance(one, Deleted) else versions.made_object(bucket.name, *one) for one in done]
