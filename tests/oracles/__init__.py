"""What the library computes, computed again in the plainest way: NumPy alone, loops where loops are clearest.

Nothing here imports the library, so a mistake in the library cannot hide itself, and whoever rewrites a function of
the library is judged by these and not by their own code.
"""
