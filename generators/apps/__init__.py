"""What the command line runs: `program` (where it runs), `commands` (one function each), `info`, and `demo`, a page."""
