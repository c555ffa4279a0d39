"""What the process needs of the machine: clocks, the log, a thread for what may hang, and the service manager."""
