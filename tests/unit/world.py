"""A world that obeys the judgement: processes that live, leak, hang and die as the dice say.

It checks each order when it is given, so a broken law names the moment it was broken.
"""

from dataclasses import dataclass

from actors.supervise import SERVING, Child, Phase, Relief, Seen, Verb, step


@dataclass
class Proc:
    """One process of the world."""

    born: float
    ready_after: float
    memory: int
    growth: int = 0  # bytes a second
    fails: bool = False
    silent_since: float | None = None

    def ready(self, now):
        return not self.fails and now - self.born >= self.ready_after


class World:
    """One child's processes, and the judgement over them."""

    def __init__(self, spec, newborn, *, room=True, quiet=True):
        self.spec, self.newborn, self.room, self.quiet = spec, newborn, room, quiet
        self.child = Child()
        self.serving = self.relief = self.leaver = None
        self.leaver_drains = 0.0
        self.draining = False
        self.now, self.log, self.gaps, self.unserved_since = 0.0, [], [], None
        self.was_up = False

    def copies(self):
        return [p for p in (self.serving, self.relief, self.leaver) if p is not None]

    def pass_time(self, seconds):
        self.now += seconds
        for process in self.copies():
            process.memory += int(process.growth * seconds)
        if self.leaver is not None:
            self.leaver_drains -= seconds
            if self.leaver_drains <= 0:
                self.leaver = None
        if self.draining and self.serving is not None:
            self.serving_drains -= seconds
            if self.serving_drains <= 0:
                self.serving = None

    def seen(self, luck=0.0):
        serving, relief = self.serving, self.relief
        if relief is None:
            coming = Relief.NONE
        elif relief.fails or relief.memory > self.spec.memory.hard:
            coming = Relief.UNFIT
        else:
            coming = Relief.READY if relief.ready(self.now) else Relief.COMING
        silent = 0.0
        if serving is not None and serving.silent_since is not None:
            silent = self.now - serving.silent_since
        return Seen(
            alive=serving is not None,
            ready=serving is not None and serving.ready(self.now),
            failed=serving is not None and serving.fails,
            memory=serving.memory if serving else None,
            silent=silent,
            relief=coming,
            leaver=self.leaver is not None,
            leaver_memory=self.leaver.memory if self.leaver else None,
            quiet=self.quiet,
            room=self.room,
            luck=luck,
        )

    def look(self, drains=1.0, luck=0.0):
        """Judge once and obey; return the orders."""
        before, seen = self.child, self.seen(luck)
        self.child, orders = step(self.spec, before, seen, self.now)
        for order in orders:
            self.obey(order, drains)
        self.log += [(self.now, order) for order in orders]
        assert len(self.copies()) <= 2, "never more than two copies"
        assert (self.relief is not None) == (self.child.phase is Phase.RELIEVING), (
            "never a forgotten relief"
        )
        if self.leaver is not None:
            assert self.child.leaver_until is not None, "never a forgotten leaver"
        if seen.memory is not None and seen.memory > self.spec.memory.hard:
            idle = before.phase in (Phase.DOWN, Phase.GAVE_UP)
            assert idle or Verb.KILL in [o.verb for o in orders], "hard waits for nobody"
        serves = (
            self.child.phase in SERVING
            and self.serving is not None
            and self.serving.ready(self.now)
        )
        self.was_up = self.was_up or serves
        return orders

    def obey(self, order, drains):
        match order.verb:
            case Verb.START:
                assert self.serving is None, "never two serving processes"
                assert self.relief is None
                self.serving, self.draining = self.newborn(self.now), False
            case Verb.KILL:
                assert self.serving is not None, "the dead are not killed"
                self.serving, self.draining = None, False
            case Verb.DRAIN:
                assert self.serving is not None
                self.draining, self.serving_drains = True, drains
            case Verb.RELIEVE:
                assert self.serving is not None
                assert self.relief is None
                assert self.leaver is None, "nobody is relieved while the last one is leaving"
                assert self.quiet, "one at a time on a machine"
                assert self.room
                self.relief = self.newborn(self.now)
            case Verb.SWITCH:
                assert self.relief is not None
                if self.serving is not None:
                    self.leaver, self.leaver_drains = self.serving, drains
                self.serving, self.relief, self.draining = self.relief, None, False
            case Verb.KILL_RELIEF:
                self.relief = None
            case Verb.KILL_LEAVER:
                assert self.leaver is not None
                self.leaver = None
            case Verb.GIVE_UP:
                pass
