"""Many calls of one function, here, in processes of this machine, or on a Dask cluster."""

import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from XraySynthLib.errors import MissingDependencyError, XraySynthError

Task = TypeVar("Task")
THREADS_VARIABLE = "XRAYSYNTH_THREADS"
CONNECT_S, COUNT_EVERY_S = 15, 0.5
MAX_WAITING = 10_000
"""Tasks that a Dask scheduler knows of at a time."""


def map_unordered(
    function: Callable[..., Any],
    tasks: Sequence[Task],
    shared: tuple[Any, ...],
    n_workers: int,
    scheduler: str | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    count: Callable[[int], object] = lambda steps: None,
) -> Generator[Task, None, None]:
    """Call `function(*shared, task)` for every task; yield each task when it is done.

    Args:
        function: A function of a module; whatever it makes it leaves in files. It may be called
            again for a task whose worker died.
        tasks: The tasks.
        shared: Arguments that are the same for all.
        n_workers: Processes; 1 stays in this one.
        scheduler: Address of a Dask scheduler, whose workers are used instead.
        say: Is told what holds up the work.
        count: Is told how many more steps of tasks are done: calls of `step` in `function`. Dask's
            workers do not tell.

    Raises:
        XraySynthError: If workers die again and again, or the scheduler cannot be reached, or dies.
        Exception: Whatever `function` raised.
    """
    if tasks and scheduler is not None:
        return _on_dask(function, tasks, shared, scheduler, say)
    if n_workers == 1 or len(tasks) <= 1:
        return _here(function, tasks, shared, count)
    return _in_processes(function, tasks, shared, min(n_workers, len(tasks)), count)


def usable_cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_threads() -> int:
    """Threads of one process: its share among workers, what OMP_NUM_THREADS says, or all."""
    for name in (THREADS_VARIABLE, "OMP_NUM_THREADS"):
        said = os.environ.get(name, "").partition(",")[0]
        if said.isdecimal() and int(said) > 0:
            return int(said)
    return usable_cpus()


def _nobody() -> None:
    pass


_told_of_step: Callable[[], object] = _nobody


def step() -> None:
    """Say, in a task's function, that a step of the task is done."""
    _told_of_step()


def _here(
    function: Callable[..., Any],
    tasks: Sequence[Task],
    shared: tuple[Any, ...],
    count: Callable[[int], object],
) -> Generator[Task, None, None]:
    global _told_of_step
    for task in tasks:
        _told_of_step = partial(count, 1)
        try:
            function(*shared, task)
        finally:
            _told_of_step = _nobody
        yield task


def _in_processes(
    function: Callable[..., Any],
    tasks: Sequence[Task],
    shared: tuple[Any, ...],
    n_workers: int,
    count: Callable[[int], object],
) -> Generator[Task, None, None]:
    import multiprocessing
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    threads = str(max(1, usable_cpus() // n_workers))
    context = multiprocessing.get_context("spawn")
    n_steps, n_counted = context.Value("q", 0), 0
    pool = ProcessPoolExecutor(
        n_workers,
        context,
        initializer=_begin_worker,
        initargs=(threads, n_steps),
    )
    waiting: dict[Future, Task] = {}
    todo = iter(tasks)
    try:
        while True:
            while len(waiting) < 2 * n_workers and (task := next(todo, None)) is not None:
                with _interrupts_held():
                    waiting[pool.submit(function, *shared, task)] = task
            if not waiting:
                return
            done = wait(waiting, COUNT_EVERY_S, FIRST_COMPLETED).done
            more = n_steps.get_obj().value - n_counted  # whose lock a dead worker may hold
            n_counted += more
            count(more)
            for future in done:
                future.result()
                yield waiting.pop(future)
    except BrokenProcessPool as error:
        raise XraySynthError(
            "A worker process died, perhaps for want of memory; run the same command again, with "
            "fewer --workers."
        ) from error
    finally:
        if waiting:  # stopped early: what is under way is not waited for
            for process in list(pool._processes.values()):  # from Python 3.14: terminate_workers
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back meanwhile; processes that begin here never hear it, they are ended."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(threads: str, n_steps: Any) -> None:
    global _told_of_step
    _told_of_step = partial(_increase, n_steps)
    os.environ[THREADS_VARIABLE] = threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows tells every process of the console


def _increase(n_steps: Any) -> None:
    with n_steps.get_lock():
        n_steps.value += 1


def _on_dask(
    function: Callable[..., Any],
    tasks: Sequence[Task],
    shared: tuple[Any, ...],
    scheduler: str,
    say: Callable[[str], None],
) -> Generator[Task, None, None]:
    try:
        from distributed import CancelledError, Client, Future, as_completed
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "--scheduler needs the package 'distributed': pip install 'xraysynth[cluster]'."
        ) from error
    for name in ("distributed", "distributed.client"):  # what fails is said in a sentence
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise XraySynthError(f"No Dask scheduler answers at {scheduler}: {error}.") from error
    with client:
        todo = iter(tasks)

        def submitted(n_tasks: int) -> dict[Future, Task]:
            return {
                client.submit(function, *shared, task, pure=False): task
                for task in islice(todo, n_tasks)
            }

        waiting = submitted(MAX_WAITING)
        if not client.nthreads():
            say(f"No worker is connected to {scheduler} yet; waiting for one.")
        done = as_completed(waiting)
        try:
            for future in done:
                future.result()
                yield waiting.pop(future)
                more = submitted(1)
                waiting |= more
                done.update(more)
        except KilledWorker as error:
            raise XraySynthError(
                "Dask's workers died again and again on one part, perhaps for want of memory."
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise XraySynthError(
                f"The Dask scheduler at {scheduler} ended, or dropped the work; with one that "
                "runs, the same command goes on."
            ) from error
        finally:
            with suppress(CancelledError, CommClosedError, RuntimeError):  # of one that is gone
                client.cancel(list(waiting))
