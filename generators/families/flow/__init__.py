"""The normalizing flow: read `bijectors` (layers), `conditioning` (captions), `realnvp`; `flowgan` adds a critic."""
