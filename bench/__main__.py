"""python -m bench speed | ops | scale | quality | edits | films | modes | world ...: what Inkling costs and gives."""
import nn  # noqa: F401, I001  (first: it prepares the process before NumPy is imported)

import importlib
import importlib.util
import sys

from generators.apps.program import streams
from nn import runtime

BENCHES = {
    "speed": "training steps, sampling, memory and start-up beside PyTorch",
    "ops": "single ops beside PyTorch's, and where a training step's time goes",
    "quality": "how good the samples are, every family on the same budget",
    "scale": "what more cores bring, measured as far as there are some, and predicted beyond",
    "films": "whether the physics of painted films is right",
    "critic": "what a critic is worth to a flow, and to diffusion in few steps",
    "edits": "whether an edit does what was asked, and nothing else",
    "pretrained": "packs trained runs as the weights that come along, and measures them",
    "modes": "how many of 1,000 kinds of image a GAN finds",
    "world": "whether a learned world knows its actions, and how long it holds together",
}


def main(arguments: list[str]) -> int:
    known = {name: text for name, text in BENCHES.items() if importlib.util.find_spec(f"bench.{name}")}
    if not arguments or arguments[0] not in known:
        lines = [f"  {name:<12}{text}" for name, text in known.items()]
        print("\n".join(["usage: python -m bench NAME [--help]", *lines]), file=sys.stderr)
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    if uncompiled := runtime.uncompiled():
        print(f"bench: {uncompiled}", file=sys.stderr)
        return 2
    try:
        return importlib.import_module(f"bench.{arguments[0]}").main(arguments[1:])
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130
    except ValueError as error:
        from datasets import CaptionError, DataError
        from generators.errors import Refusal
        from generators.judging.metrics import MetricError
        from nn.checkpoint import CheckpointError

        if not isinstance(error, CaptionError | DataError | MetricError | Refusal | CheckpointError):
            raise
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    with streams():
        code = main(sys.argv[1:])
    sys.exit(code)
