"""Rows for tests of the cache: whoever knows the number knows key and vector."""

import hashlib
import sqlite3

import numpy as np

WIDTH = 384


def key(number):
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def keys(numbers):
    return [key(number) for number in numbers]


def vectors(numbers):
    rows = [hashlib.shake_256(key(number)).digest(WIDTH) for number in numbers]
    bytes_ = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), WIDTH)
    return bytes_.astype(np.float32)


def put(cache, numbers, **options):
    cache.put_many(keys(numbers), vectors(numbers), **options)


def found(cache, numbers):
    """List the numbers whose rows are there; each must be right."""
    there = []
    rows = cache.get_many(keys(numbers))
    for number, row, expected in zip(numbers, rows, vectors(numbers), strict=True):
        if row is not None:
            assert (row.dtype, row.shape) == (expected.dtype, expected.shape)
            assert row.tobytes() == expected.tobytes()
            there.append(number)
    return there


def change_file(cache, sql, *values):
    """Change the file behind the cache's back, and count the rows changed."""
    connection = sqlite3.connect(cache.path)
    with connection:
        changed = connection.execute(sql, values).rowcount
    connection.close()
    return changed
