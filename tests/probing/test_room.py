"""Room among the files that this process may have open."""

import errno
import resource

import pytest

from balancer.probing.room import KEPT_SHARE, kept_max, roomy


class Files:
    """What needs one, and some that are kept."""

    def __init__(self, kept, problem=errno.EMFILE):
        self.kept = kept
        self.problem = problem
        self.tried = 0

    async def open(self):
        self.tried += 1
        if self.tried <= 2:
            raise OSError(self.problem, "no")
        return "opened"

    async def make_room(self):
        self.kept -= 1
        return self.kept >= 0


@pytest.mark.parametrize("problem", [errno.EMFILE, errno.ENFILE])
async def test_room_is_made_until_it_is_enough(problem):
    files = Files(5, problem)
    assert await roomy(files.open, files.make_room) == "opened"
    assert (files.tried, files.kept) == (3, 3)


@pytest.mark.parametrize(("kept", "problem", "left"), [(1, errno.EMFILE, -1), (5, errno.ECONNREFUSED, 5)])
async def test_what_no_room_helps_is_raised(kept, problem, left):
    files = Files(kept, problem)
    with pytest.raises(OSError) as caught:
        await roomy(files.open, files.make_room)
    assert (caught.value.errno, files.kept) == (problem, left)


def test_a_part_of_the_files_is_never_kept():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        assert kept_max() == 200 * KEPT_SHARE < 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
