"""How OpenMP's threads wait, which it reads from the environment when torch is loaded."""

from __future__ import annotations

import os


def wait_shortly() -> None:
    """Let threads that wait spin for some microseconds and then sleep; what the environment says already stands.

    Left to itself a thread spins for milliseconds, so that two processes on the same cores spend their time spinning
    (20 to 40 times slower). One that sleeps at once has to be woken between any two small operations of a forward,
    which takes longer than they do (twice as slow).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
