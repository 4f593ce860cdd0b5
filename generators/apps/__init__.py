"""What the command line runs: `commands`, one function each, `info`, and `demo`, the page of `make demo`."""
