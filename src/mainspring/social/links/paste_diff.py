"""What has changed between two texts, line by line, as a unified diff.

The shortest edit script by the greedy algorithm of E. W. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986: it
walks the diagonals of the edit graph as far as equal lines lead, with one more change in each round. The rounds are bounded,
and with them time and memory: texts with more changes than that between their first and last difference are shown as one
block replaced by another.
"""

from collections.abc import Iterator, Sequence

CHANGES_MAX = 400
CONTEXT = 3

Step = tuple[str, str]
"""A mark (space: kept, -: only in the old text, +: only in the new one) and a line."""


def script(old: Sequence[str], new: Sequence[str], changes_max: int = CHANGES_MAX) -> list[Step]:
    """The steps that lead from `old` to `new`, the fewest changes that there can be where they are few enough."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    before, after = old[start : len(old) - end], new[start : len(new) - end]
    middle = _shortest(before, after, changes_max)
    if middle is None:
        middle = [*(("-", line) for line in before), *(("+", line) for line in after)]
    return [*((" ", line) for line in old[:start]), *middle, *((" ", line) for line in old[len(old) - end :])]


def _shortest(old: Sequence[str], new: Sequence[str], changes_max: int) -> list[Step] | None:
    """None where it takes more than `changes_max` changes."""
    furthest, rounds = {1: 0}, list[dict[int, int]]()
    for changes in range(min(len(old) + len(new), changes_max) + 1):
        # A round reads the diagonals of the one before only, and so that is all there is to remember.
        rounds.append({k: furthest[k] for k in range(-changes - 1, changes + 2) if k in furthest})
        for diagonal in range(-changes, changes + 1, 2):
            x = _enter(furthest, diagonal, changes)
            y = x - diagonal
            while x < len(old) and y < len(new) and old[x] == new[y]:
                x, y = x + 1, y + 1
            furthest[diagonal] = x
            if x >= len(old) and y >= len(new):
                return _walk_back(rounds, old, new)
    return None


def _enter(furthest: dict[int, int], diagonal: int, changes: int) -> int:
    """Where a round steps onto a diagonal: down (a line added) from the one above, else right (a line taken away)."""
    if diagonal == -changes or (diagonal != changes and furthest[diagonal - 1] < furthest[diagonal + 1]):
        return furthest[diagonal + 1]
    return furthest[diagonal - 1] + 1


def _walk_back(rounds: list[dict[int, int]], old: Sequence[str], new: Sequence[str]) -> list[Step]:
    x, y, steps = len(old), len(new), list[Step]()
    for changes in range(len(rounds) - 1, -1, -1):
        furthest, diagonal = rounds[changes], x - y
        entered = _enter(furthest, diagonal, changes)
        while x > max(entered, diagonal):
            x, y = x - 1, y - 1
            steps.append((" ", old[x]))
        if not changes:
            break
        if diagonal == -changes or (diagonal != changes and furthest[diagonal - 1] < furthest[diagonal + 1]):
            y -= 1
            steps.append(("+", new[y]))
        else:
            x -= 1
            steps.append(("-", old[x]))
    steps.reverse()
    return steps


def unified(old: str, new: str, old_name: str, new_name: str) -> str:
    """The unified diff of two texts, with three lines around each change; empty where they are equal."""
    steps = script(old.splitlines(), new.splitlines())
    lines = [f"--- {old_name}", f"+++ {new_name}"]
    for first, last in _hunks(steps):
        at_old = 1 + sum(mark != "+" for mark, _ in steps[:first])
        at_new = 1 + sum(mark != "-" for mark, _ in steps[:first])
        in_old = sum(mark != "+" for mark, _ in steps[first:last])
        in_new = sum(mark != "-" for mark, _ in steps[first:last])
        # An empty side is written with the line before it (POSIX, diff -u).
        lines.append(f"@@ -{at_old - (not in_old)},{in_old} +{at_new - (not in_new)},{in_new} @@")
        lines += [mark + line for mark, line in steps[first:last]]
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _hunks(steps: Sequence[Step]) -> Iterator[tuple[int, int]]:
    """Ranges of steps that hold the changes and their context, those that touch as one."""
    first = last = -1
    for place, (mark, _) in enumerate(steps):
        if mark == " ":
            continue
        if first >= 0 and place - CONTEXT > last:
            yield first, last
            first = -1
        if first < 0:
            first = max(0, place - CONTEXT)
        last = min(len(steps), place + CONTEXT + 1)
    if first >= 0:
        yield first, last
