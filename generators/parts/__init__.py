"""What more than one family is made of, and what knows no family.

Read `text` (captions), `blocks` (layers), `patches`, `painter`, `attention`, `guidance`, `critic`, `autoencode`.
"""
