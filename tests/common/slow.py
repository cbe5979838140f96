"""Networks and boosters that take long enough for their process to be killed in between."""

import time

from xgboost.callback import TrainingCallback

from common.networks import TinyNet


class SlowNet(TinyNet):
    """Takes 20 ms a batch."""

    def forward(self, x):
        time.sleep(0.02)
        return super().forward(x)


class SlowRounds(TrainingCallback):
    """Waits for 20 ms after each round."""

    def after_iteration(self, model, epoch, evals_log):
        time.sleep(0.02)
        return False
