"""`python -m balancer` is the command `balancer`."""

import sys

from balancer.cli import main

sys.exit(main())
