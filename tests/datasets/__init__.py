"""Tests of datasets/: each names the mistake that it is there to catch."""
