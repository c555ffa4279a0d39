"""What the process needs of the machine: clocks, the log, and what the service manager passes and is told."""
