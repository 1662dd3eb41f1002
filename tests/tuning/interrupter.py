"""Someone who presses Ctrl-C in the middle of many runs."""

from jaxopt_lectures.tuning.progress import Silent


class Interrupter(Silent):
    """Presses Ctrl-C after so many steps of lanes."""

    def __init__(self, steps):
        self.left = steps

    def advance(self, steps):
        self.left -= steps
        if self.left < 0:
            raise KeyboardInterrupt
