"""What more than one family is made of, and what knows no family.

Read `text` (captions) and `blocks` (layers) first; then `patches`, `painter`, `attention`, `guidance`, `critic`,
`autoencode`.
"""
