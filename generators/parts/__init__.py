"""What more than one family is made of, and what knows no family: read `text` (captions), then `blocks` (layers)."""
