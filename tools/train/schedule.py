"""What both trainings share: two processes that add up their gradients, a learning rate that falls
over a budget of seconds, checkpoints, a line of averages every hundred steps.

    train_x.py RANK WORLD BUDGET_S STOP_S

BUDGET_S is the length of the whole schedule, STOP_S when this call ends; calling again goes on.
"""
import math
import os
import sys
import time

import torch
import torch.distributed as dist

from work import path


class Schedule:
    def __init__(self, name, port, peak, warm_up, floor):
        self.rank, self.world = int(sys.argv[1]), int(sys.argv[2])
        self.budget, self.stop = float(sys.argv[3]), float(sys.argv[4])
        self.file = path(f"checkpoints/{name}.pt")
        self.peak, self.warm_up, self.floor = peak, warm_up, floor
        self.step, self.spent, self.now = 0, 0.0, 0.0  # seconds of earlier calls, of this one
        self._sums, self._last_report = {}, time.time()
        torch.set_num_threads(1)  # two processes of one thread scale better than two threads
        if self.world > 1:
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            dist.init_process_group("gloo", rank=self.rank, world_size=self.world)
        self._tick = time.time()

    def clock(self):
        """Count this step's time. A step that took very long was a machine that slept."""
        now = time.time()
        self.now += min(now - self._tick, 10.0)
        self._tick = now

    def add_up(self, gradient, statistics=None):
        """Mean of the gradients and sum of the statistics of all processes. The first one's clock
        is everybody's, so that all stop at the same step."""
        self.clock()
        if self.world == 1:
            return
        own = [gradient / self.world]
        if statistics is not None:
            own.append(statistics)
        together = torch.cat(own + [torch.tensor([self.now if self.rank == 0 else 0.0])])
        dist.all_reduce(together)
        gradient.copy_(together[:len(gradient)])
        if statistics is not None:
            statistics.copy_(together[len(gradient):-1])
        self.now = float(together[-1])

    def same_everywhere(self, tensor):
        if self.world > 1:
            dist.broadcast(tensor, 0)

    def progress(self):
        return min(1.0, (self.spent + self.now) / self.budget)

    def rate(self):
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress()))
        return (self.peak * min(1.0, (self.step + 1) / self.warm_up) *
                (cosine * (1 - self.floor) + self.floor))

    def report(self, **values):
        """Averages of a hundred steps."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + float(value)
        if self.step % 100 == 0 and self.rank == 0:
            now = time.time()
            print(f"step {self.step}, {self.spent + self.now:.0f} s:",
                  " ".join(f"{k} {v / 100:.4f}" for k, v in self._sums.items()),
                  f"({(now - self._last_report) * 10:.0f} ms a step)", flush=True)
            self._sums, self._last_report = {}, now

    def save(self, **state):
        if self.rank == 0:
            state.update(step=self.step, spent=self.spent + self.now)
            torch.save(state, self.file + ".tmp")
            os.replace(self.file + ".tmp", self.file)

    def resume(self):
        """The state of an earlier call, or None."""
        if not os.path.exists(self.file):
            return None
        state = torch.load(self.file)
        self.step, self.spent = state["step"], state["spent"]
        return state

    def done(self):
        return self.now > self.stop or self.progress() >= 1.0
