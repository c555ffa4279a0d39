"""What the process needs of the machine: clocks and the log."""
