"""Will a config fit a machine, and what will it take: arithmetic, before anything is paid for."""
