"""What may be true now of a thing that commands change, as far as their reports tell."""
import math


class change:
    """One command's effect on one key: it sets the key to a value some time between start and end."""

    def __init__(self, key, value, start):
        self.key, self.value, self.start, self.end, self.outcome = key, value, start, math.inf, "running"


class history:
    """Keys have the value None before anything is done. Times are numbers that grow."""

    def __init__(self):
        self.changes = {}

    def begin(self, values, now):
        begun = [change(key, value, now) for key, value in values.items()]
        for one in begun:
            self.changes.setdefault(one.key, []).append(one)
        return begun

    def end(self, begun, outcome, now):
        """`done`: it is so. `failed`: nothing was changed. `unknown`: it may be so."""
        for one in begun:
            one.end, one.outcome = now, outcome

    def possible(self, key, earliest, latest=None):
        """The values it may have at a moment that lies between the two times."""
        latest = earliest if latest is None else latest
        nothing = change(key, None, -math.inf)
        nothing.end, nothing.outcome = -math.inf, "done"
        begun = [nothing] + [c for c in self.changes.get(key, []) if c.start <= latest]
        sure = [c for c in begun if c.outcome == "done" and c.end <= earliest]
        last = max(c.start for c in sure)
        return {c.value for c in begun if (c.outcome != "failed" or c.end > earliest) and (c in sure and c.end >= last or
                                                                                          c not in sure and c.end > last)}

    def forget(self, horizon):
        """Drops what can be true at no moment from the horizon on."""
        for key, changes in list(self.changes.items()):
            last = max((c.start for c in changes if c.outcome == "done" and c.end <= horizon), default=-math.inf)
            kept = [c for c in changes if c.end >= last and (c.outcome != "failed" or c.end > horizon)]
            if len(kept) == 1 and kept[0].outcome == "done" and kept[0].value is None and kept[0].end <= horizon:
                kept = []
            if kept:
                self.changes[key] = kept
            else:
                del self.changes[key]

    def keys(self):
        return list(self.changes)
