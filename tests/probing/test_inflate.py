"""Compressed bodies, whole and in crumbs."""

import gzip
import zlib

import pytest

from balancer.probing.inflate import Inflate

TEXT = b'{"data": [{"id": "model-1"}]}' * 20


def bare(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def fed(inflate, body, size):
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(inflate.decoded(piece, 1_000_000) for piece in pieces)


@pytest.mark.parametrize("size", [1, 2, 3, 100, 10_000])
@pytest.mark.parametrize(
    ("body", "deflate"),
    [
        (gzip.compress(TEXT), False),
        (gzip.compress(TEXT), True),
        (zlib.compress(TEXT), True),
        (zlib.compress(TEXT, 9), True),
        (bare(TEXT), True),
        (gzip.compress(TEXT[:40]) + gzip.compress(b"") + gzip.compress(TEXT[40:]), False),
        (gzip.compress(TEXT) + bytes(100), False),
        (gzip.compress(TEXT) + b"x", False),
        (gzip.compress(TEXT) + b"what is no member" * 10, False),
    ],
)
def test_every_body_is_read_whole(body, deflate, size):
    inflate = Inflate(deflate)
    assert fed(inflate, body, size) == TEXT
    assert inflate.whole


@pytest.mark.parametrize("body", [gzip.compress(TEXT)[:-1], gzip.compress(b"1") + gzip.compress(TEXT)[:-9]])
def test_a_body_that_is_cut_is_not_whole(body):
    inflate = Inflate(False)
    fed(inflate, body, 100)
    assert not inflate.whole


@pytest.mark.parametrize("body", [b"not gzip at all", bare(TEXT), gzip.compress(TEXT)[:-8] + bytes(8)])
def test_what_is_not_compressed_is_refused(body):
    with pytest.raises(zlib.error):
        fed(Inflate(False), body, 100)


def test_no_more_is_given_than_is_allowed():
    bomb = gzip.compress(bytes(10_000_000))
    assert len(Inflate(False).decoded(bomb, 1000)) == 1000
    assert len(Inflate(False).decoded(gzip.compress(bytes(600)) * 9, 1000)) == 1000
