"""What a service may be asked: a budget in calls and in money."""

from __future__ import annotations

import threading

import msgspec


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one loaded detector may spend; answers from recordings cost nothing.

    Attributes:
        calls: requests that were answered, or that may have been billed.
        money: their cost at `price`.
        price: of one call, in whatever currency `money` is in.
    """

    calls: int | None = None
    money: float | None = None
    price: float = 0.0

    def __post_init__(self) -> None:
        """Refuses a budget that could not hold."""
        if (self.calls or 0) < 0 or (self.money or 0.0) < 0 or self.price < 0:
            raise ValueError("a budget cannot be negative")
        if self.money is not None and not self.price:
            raise ValueError("`money` needs the `price` of a call")


class Purse:
    """Keeps a budget. A place is taken before a request goes out, so that threads cannot overspend.

    Attributes:
        calls: what was spent, in calls.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._open = 0
        self._change = threading.Condition()
        self.calls = 0

    @property
    def money(self) -> float:
        """What was spent, in money."""
        return self.calls * self._budget.price

    def take(self) -> bool:
        """Takes a place for one call; False if nothing is left for it.

        While calls are under way whose places may yet come back (a rate limit costs nothing), it waits for them.
        """
        with self._change:
            while not self._room():
                if self._open == 0:
                    return False
                self._change.wait()
            self._open += 1
            return True

    def settle(self, *, billed: bool) -> None:
        """Ends a call: its place is spent, or comes back."""
        with self._change:
            self._open -= 1
            self.calls += billed
            self._change.notify_all()

    def _room(self) -> bool:
        then, budget = self.calls + self._open + 1, self._budget
        within_calls = budget.calls is None or then <= budget.calls
        return within_calls and (budget.money is None or then * budget.price <= budget.money * (1 + 1e-9))
