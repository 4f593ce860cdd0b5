"""Single ops beside PyTorch's at the shapes that the families use, and a step's profile: `python -m bench ops`.

    python -m bench ops
    python -m bench ops --isa avx2
    python -m bench ops --profile ddpm

Each op runs on a batch of 128 images on two cores: ours on shards of 32 in two processes, as in training, PyTorch's on
the whole by two threads.  "forward" keeps what a backward would need; "both" is forward and backward, with the
gradients of every input.
"""
from __future__ import annotations

import argparse

from bench import profile
from bench.arena import TORCH, Contestant, Failed, torch_is_installed
from bench.models import WITH_TWIN
from bench.speed import HOW_TO_INSTALL, add_isa, hold_to, vectors
from disk import files

# op, and the shapes of its inputs for the whole batch; an image op's first axis is cut into shards
CASES: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    *(
        ("conv2d", ((128, size, size, inputs), (kernel, kernel, inputs, outputs), (outputs,)))
        for size, inputs, outputs, kernel in (
            (28, 32, 32, 3), (14, 64, 64, 3), (7, 128, 128, 3), (14, 32, 32, 3), (14, 48, 48, 3), (7, 64, 64, 3),
            (28, 1, 32, 3), (28, 32, 1, 3), (28, 8, 1, 3), (14, 4, 32, 3), (14, 32, 32, 1), (14, 128, 64, 1),
        )
    ),
    *(
        ("group_norm_silu", ((128, size, size, channels), (channels,), (channels,)))
        for size, channels in ((28, 32), (14, 64), (7, 128), (14, 48), (7, 64))
    ),
    *(  # modulated
        ("group_norm_silu", ((128, size, size, channels), (channels,), (channels,), (128, 2 * channels)))
        for size, channels in ((28, 32), (14, 64), (7, 128))
    ),
    ("linear", ((128, 3136), (3136, 64), (64,))),
    ("linear", ((128, 96), (96, 3136), (3136,))),
    ("linear", ((128, 96), (96, 96), (96,))),
    ("scaled_dot_product_attention", ((128, 4, 49, 32),) * 3),
    ("leaky_relu", ((512, 14, 14, 32),)),
    ("silu", ((128, 28, 28, 8),)),
    ("softplus", ((128, 28, 28, 1),)),
    ("bce_with_logits", ((128, 28, 28, 1), (128, 28, 28, 1))),
]  # fmt: skip
WEIGHTS = dict.fromkeys(("conv2d", "linear", "group_norm_silu"), (1, 2))  # which inputs are not images
PARTS = ("forward", "both")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m bench ops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="OP", choices=sorted({op for op, _ in CASES}))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default: 5)")
    parser.add_argument("--profile", nargs="+", metavar="FAMILY", choices=WITH_TWIN, help="instead: where a step goes")
    parser.add_argument("--steps", type=int, default=10, help="of a profile (default: 10)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures of the ops there")
    add_isa(parser)
    options = parser.parse_args(arguments)
    hold_to(options.isa)
    if options.profile:
        if options.isa:
            parser.error("a profile is of this process, which has chosen its vectors already: leave out --isa")
        for family in options.profile:
            print(profile.table(profile.profile(family, options.steps)), end="\n\n", flush=True)
        return 0
    sides = ["ours", *(name for name in TORCH if name != "torch_compile")]
    if not torch_is_installed():
        print(HOW_TO_INSTALL)
        sides = ["ours"]
    if options.isa:
        print(f"Vectors of {options.isa}: {', '.join(vectors(sides, options.isa))}.")
    rows = compare([case for case in CASES if options.only in (None, case[0])], sides, options.rounds)
    if options.json:
        files.write_json(options.json, rows)
    return 0


def compare(cases: list, sides: list[str], rounds: int) -> list[dict]:
    """The shortest milliseconds of each side for each case, printed as they come."""
    print(f"{'ms':<54}" + "".join(f"{side.removeprefix('torch_'):>23}" for side in sides) + f"{'ratio':>14}")
    print(f"{'':<54}" + f"{'forward':>14}{'both':>9}" * len(sides) + f"{'forward':>8}{'both':>6}")
    running: list[Contestant] = []
    rows = []
    try:
        running += [Contestant(side) for side in sides]
        for op, shapes in cases:
            times = {side: dict.fromkeys(PARTS, float("inf")) for side in sides}
            for _ in range(rounds):
                for contestant in running:
                    for part, seconds in contestant.ask("op", op=op, shapes=shapes).items():
                        times[contestant.name][part] = min(times[contestant.name][part], seconds * 1e3)
            rows.append({"op": op, "shapes": shapes, "ms": times})
            print(_line(op, shapes, times), flush=True)
    except Failed as failure:
        raise SystemExit(f"a contestant failed: {failure}") from failure
    finally:
        for contestant in running:
            contestant.close()
    return rows


def _line(op: str, shapes: tuple, times: dict[str, dict[str, float]]) -> str:
    shown = [shape for shape in shapes if len(shape) > 1][:2]  # vectors of weights say nothing new
    name = f"{op} {' '.join('x'.join(map(str, shape)) for shape in shown)}"
    cells = "".join(f"{of['forward']:>14.2f}{of['both']:>9.2f}" for of in times.values())
    others = [of for side, of in times.items() if side != "ours"]
    if not others:
        return f"{name:<54}{cells}"
    forward, both = (times["ours"][part] / min(of[part] for of in others) for part in PARTS)
    return f"{name:<54}{cells}{forward:>8.2f}{both:>6.2f}"
