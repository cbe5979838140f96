"""Networks and boosters that take long enough for their process to be killed in between."""

import time

from xgboost.callback import TrainingCallback

from common.networks import TinyNet


class SlowNet(TinyNet):
    """Takes 100 ms a batch."""

    def forward(self, x):
        time.sleep(0.1)
        return super().forward(x)


class SlowRounds(TrainingCallback):
    """Waits for 50 ms after each round, and counts the rounds of this process."""

    n_rounds = 0

    def after_iteration(self, model, epoch, evals_log):
        SlowRounds.n_rounds += 1
        time.sleep(0.05)
        return False

    @staticmethod
    def forget():
        SlowRounds.n_rounds = 0

    @staticmethod
    def have_begun():
        return SlowRounds.n_rounds > 0
