"""`balancer run`: the daemon in the foreground, and its signals.

SIGTERM and SIGINT end it in order (answers under way finish), a second SIGINT ends it at once; SIGHUP reloads.

The exit status tells a supervisor whether it helps to start again: 0 ended as asked, 1 the configuration is refused
and 2 the command is wrong, which the next start would be too; 70 a bug of ours, 71 an address that cannot be had
(names of `sysexits.h`), 130 a second Ctrl-C.

What this module does not know: what a start, a reload and an end consist of; the daemon does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from balancer.config import Config, ConfigError, load_config
from balancer.daemon import Daemon
from balancer.daemon.control import runtime_directory
from balancer.service.log import adopt_libraries, configure
from balancer.service.notify import Notify
from balancer.service.sockets import passed


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    verb.add_argument("-c", "--config", default="balancer.yaml", help="configuration file (balancer.yaml)")


def run(asked: argparse.Namespace) -> int:
    """Run until a signal says stop."""
    # A reload that is asked for while we start waits until there is something to reload, and kills nobody.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        return _run(asked)
    except Exception:
        traceback.print_exc()  # and not Python's own end, whose status is that of a refused configuration
        return os.EX_SOFTWARE


def _run(asked: argparse.Namespace) -> int:
    def read() -> Config:
        return load_config(asked.config, environ=os.environ)

    try:
        config = read()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        notify = Notify.from_environment(os.environ, pid=os.getpid())
        given = passed(os.environ, pid=os.getpid())
    except ValueError as error:  # a service manager that we do not understand
        print(f"balancer: {error}", file=sys.stderr)
        return os.EX_OSERR
    raise_limit_of_files()
    try:
        log = configure(level=config.log.level, style=config.log.format, environ=os.environ)
    except OSError as error:
        print(f"balancer: {error}", file=sys.stderr)
        return os.EX_OSERR
    adopt_libraries(log)
    runtime_dir = runtime_directory(os.environ)
    daemon = Daemon(config, reload=read, log=log, notify=notify, passed=given, runtime_dir=runtime_dir)
    trouble: object = None
    status = 0
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(daemon))
    except ConfigError as error:
        trouble = error
        status = 1
    except OSError as error:
        trouble = error.strerror or error
        status = os.EX_OSERR
    except ExceptionGroup:
        status = os.EX_SOFTWARE  # and the log has told it
    finally:
        log.close()  # before anything else is said, so that what ended us is the last line
        notify.close()
    if trouble is not None:
        print(f"balancer: {trouble}", file=sys.stderr)
    return status


def raise_limit_of_files() -> None:
    """Allow this process as many open files as it may ask for.

    Source: systemd, `man systemd.exec`, LimitNOFILE: the soft limit of 1024 is for programs that call select(), and
    a kept connection per endpoint needs more.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a limit that may not be raised is none of a probe's troubles yet
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed; asyncio's own elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], Any] = uvloop.new_event_loop
    return factory


async def _serve(daemon: Daemon) -> None:
    loop = asyncio.get_running_loop()
    stop, again = asyncio.Event(), asyncio.Event()
    starting = asyncio.current_task()

    def end() -> None:
        stop.set()
        if starting is not None:
            starting.cancel()  # it may wait for a disk that hangs

    def interrupt() -> None:
        if stop.is_set():
            os._exit(130)  # the second Ctrl-C means now
        end()

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    async with AsyncExitStack() as running:
        try:
            await running.enter_async_context(daemon.running())
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
        starting = None
        if not stop.is_set():
            async with asyncio.TaskGroup() as tasks:
                reloading = tasks.create_task(_reload_when(again, daemon), name="reload on SIGHUP")
                await stop.wait()
                reloading.cancel()
    # The loop takes its handlers with it: an impatient supervisor must not kill what only has its log to flush.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


async def _reload_when(asked: asyncio.Event, daemon: Daemon) -> None:
    while True:
        await asked.wait()
        asked.clear()
        await daemon.reloading.by_signal()
