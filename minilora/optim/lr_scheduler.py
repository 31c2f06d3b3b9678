"""Learning-rate schedules, under the names of PyTorch and transformers. Call `step()` after the optimizer's."""

from collections.abc import Callable
from math import cos, pi

from minilora.optim import Optimizer


class LambdaLR:
    """Each group's initial learning rate, times lr_lambda(number of steps so far)."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.optimizer, self.lr_lambda, self.last_epoch = optimizer, lr_lambda, -1
        self.base_lrs: list[float] = [group["lr"] for group in optimizer.param_groups]
        self.step()

    def step(self) -> None:
        self.last_epoch += 1
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = self.rate(base)

    def rate(self, base: float) -> float:
        """Return the current learning rate of a group that began with `base`."""
        return base * self.lr_lambda(self.last_epoch)

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]


class CosineAnnealingLR(LambdaLR):
    """Cosine decay from the learning rate to eta_min over T_max steps (Loshchilov & Hutter 2017, "SGDR")."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.eta_min = eta_min
        super().__init__(optimizer, lambda step: (1 + cos(pi * step / T_max)) / 2)

    def rate(self, base: float) -> float:
        return self.eta_min + super().rate(base - self.eta_min)


def get_linear_schedule_with_warmup(optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int) -> LambdaLR:
    """Return a schedule that rises linearly from 0 during the warmup, then falls linearly to 0 at the last step."""
    warmup, total = num_warmup_steps, num_training_steps
    falling = max(1, total - warmup)
    return LambdaLR(optimizer, lambda step: step / warmup if step < warmup else max(0.0, (total - step) / falling))
