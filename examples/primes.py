"""Count the primes below a limit, in pieces, over whatever cluster MANYHANDS_BROKER names.

The answer goes to stdout, progress to stderr.

    python examples/primes.py 4000000
"""

from __future__ import annotations

import sys
import time

import manyhands

PIECE = 20_000


def count_primes(start: int) -> int:
    """How many of the `PIECE` numbers from `start` on are prime (by trial division)."""
    found = 0
    for number in range(max(start, 2), start + PIECE):
        if all(number % divisor for divisor in range(2, int(number**0.5) + 1)):
            found += 1
    return found


def main(limit: int) -> None:
    """Count in parallel and tell how it goes."""
    starts = range(0, limit, PIECE)
    begun = time.perf_counter()
    total = 0
    with manyhands.Pool() as pool:
        for done, found in enumerate(pool.imap_unordered(count_primes, starts), start=1):
            total += found
            if done % 10 == 0 or done == len(starts):
                print(f"{done} of {len(starts)} pieces", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - begun
    print(f"in {seconds:.1f} s", file=sys.stderr)
    print(f"{total} primes below {len(starts) * PIECE}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4_000_000)
