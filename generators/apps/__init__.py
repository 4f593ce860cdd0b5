"""What the command line runs: `commands`, one function each, and `demo`, the page that `make demo` makes."""
