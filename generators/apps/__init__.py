"""What the command line runs: `program` (where it runs), `commands` (one function each) and `measuring` (two more).

`lecture` and `demo` make pages, of `experiments`; `play` is a game, `explore` a page that talks to Python (`server`).
"""
