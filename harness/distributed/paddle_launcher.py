"""`paddle.distributed.launch`, which SIGTERM leaves alone: it ends the job at SIGUSR1 instead.

Slurm sends SIGTERM to every process of a job. Paddle's launcher would kill the workers 30 s after
it, whatever time they have been given to save; who started it tells them, and ends it if need be.
"""

import signal
from typing import Any

END = signal.SIGUSR1


def main() -> None:
    """Run paddle's launcher on the command line's arguments."""
    from paddle.distributed.launch.main import launch

    handle = signal.signal
    # A handler, since workers would inherit that a signal is ignored.
    handle(signal.SIGTERM, lambda *_: None)

    def redirected(number: int, handler: Any) -> Any:
        return handle(END if number == signal.SIGTERM else number, handler)

    signal.signal = redirected  # type: ignore[assignment]  # overloads of their own
    launch()


if __name__ == "__main__":
    main()
