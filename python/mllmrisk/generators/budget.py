"""How much a provider is asked: a budget in images and in money."""

from __future__ import annotations

import threading


class Budget:
    """What may be spent, and what was. A place is reserved before a request goes out, so that threads cannot overspend.

    Attributes:
        images: requests that came back with an image, or may have been billed.
        usd: their cost, by the provider's usage where it tells, else by the price per image.
    """

    def __init__(self, max_images: int | None, max_usd: float | None, usd_per_image: float) -> None:
        self._max_images, self._max_usd, self._price = max_images, max_usd, usd_per_image
        self._reserved = 0
        self._lock = threading.Condition()
        self.images = 0
        self.usd = 0.0

    def reserve(self) -> bool:
        """Takes a place for one image; False if nothing is left for it.

        While requests are under way that may yet give their places back (a refusal costs nothing), it waits for them.
        """
        with self._lock:
            while not self._room():
                if self._reserved == 0:
                    return False
                self._lock.wait()
            self._reserved += 1
            return True

    def spend(self, usd: float | None = None) -> float:
        """Turns a reserved place into an image that cost `usd`, or the price per image; gives the cost."""
        cost = self._price if usd is None else usd
        with self._lock:
            self._reserved -= 1
            self.images += 1
            self.usd += cost
            self._lock.notify_all()
        return cost

    def release(self) -> None:
        """Gives a place back: nothing was made."""
        with self._lock:
            self._reserved -= 1
            self._lock.notify_all()

    def _room(self) -> bool:
        if self._max_images is not None and self.images + self._reserved >= self._max_images:
            return False
        coming = (self._reserved + 1) * self._price
        return self._max_usd is None or self.usd + coming <= self._max_usd * (1 + 1e-9)

    def spent(self) -> str:
        """In words, for the message that ends a run."""
        parts = [f"{self.images} image(s) made"]
        if self._max_images is not None:
            parts.append(f"max_images = {self._max_images}")
        if self._max_usd is not None:
            parts.append(f"about {self.usd:.2f} USD of max_usd = {self._max_usd:g}")
        return ", ".join(parts)
