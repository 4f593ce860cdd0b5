"""What Inkling costs, achieves and withstands, measured.  `python -m bench` lists the benches."""
