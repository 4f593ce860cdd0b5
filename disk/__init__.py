"""The ground floor: files on a disk that may be full, shared with other programs, or cut off from power at any moment.

`nn` and `datasets` know nothing of each other, and both need this: it knows nothing of either, and imports the
standard library alone. Read `files.py` (written whole or not at all), `lock.py` (one process at a time), `cache.py`
(where what can be made again is kept).
"""
