"""The decision core: one synchronous table without I/O.

No asyncio, clock, log, file, environment or global randomness lives here. Time is always the argument
`now` in monotonic seconds, and what a rim sends in is a frozen value.
"""
