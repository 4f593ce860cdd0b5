"""What a person looks at: read `pictures` (grids), `films`, `charts` (curves), `page` (one HTML file).

`terminal` shows pictures in a terminal, `log` has the losses that charts are drawn of.
"""
