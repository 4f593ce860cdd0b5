"""A world learned by watching: `predictor.py` paints the next frame, `world.py` finds out what an action is."""
