"""What people get wrong whatever the exercise, by kind: exercise -> (about, cause, old, new); here, in the families.

    randomness   drawn twice, shared by the batch, a fixed share, or not from `rng`
    dtype        float64 out of float32, and the other way
    two halves   a forward that saves what the library's backward cannot use; a graph walked in almost the right order
    size         right where there is one group, one latent, one image, two dimensions, numbers of ordinary size
    state        one buffer for all, the caller's array kept, a counter replaced
    meaning      the mean of what should be averaged first, a caption read in part

mutants.py makes by machine what can be done to any solution; these take a hand.
"""

_SHARED = "np.broadcast_to(rng.standard_normal(x0.shape[1:], dtype=np.float32), x0.shape)"
_DRAWN = "rng.standard_normal(x0.shape, dtype=np.float32)"
_DROPPED = "tokens = drop_captions(shard.tokens, config.caption_dropout, rng)"

KINDS_OF_FAMILIES = {
    "ddpm-loss": [
        (
            "other noise in the target",
            "noise of its own",
            "training_target(x0, t, eps,",
            f"training_target(x0, t, {_DRAWN},",
        ),
        ("one noise for the batch", "one noise for the whole batch", _DRAWN, _SHARED),
        ("NumPy's own generator", "np.random", _DRAWN, "np.random.standard_normal(x0.shape).astype(np.float32)"),
        (
            "one time for the batch",
            "one time for the whole batch",
            "t = process.draw_times(len(x0), config.time_steps, rng, self.training_share)",
            "t = np.repeat(process.draw_times(1, config.time_steps, rng, self.training_share), len(x0))",
        ),
        (
            "a fixed share of captions",
            "a fixed share",
            _DROPPED,
            "tokens = shard.tokens.copy()\n"
            "tokens[rng.permutation(len(tokens))[: int(len(tokens) * config.caption_dropout)]] = 0",
        ),
        ("float64 for the network", "float64", "eps, alpha_bar)\ntarget", "eps.astype(float), alpha_bar)\ntarget"),
        ("the mean of the errors", "", "F.sum(errors) * (1 / shard.batch_size)", "F.mean(errors)"),
        ("the first image only", "", "F.sum(errors)", "errors[0]"),
    ],
    "elbo": [
        ("binarised anew for the error", "", "caption), images)", "caption), binarise(shard.images, rng))"),
        (
            "one noise for the batch",
            "one noise for the whole batch",
            "rng.standard_normal(mean.shape, dtype=np.float32)",
            "rng.standard_normal(mean.shape[1:], dtype=np.float32)",
        ),
        (
            "NumPy's own generator",
            "np.random",
            "rng.standard_normal(mean.shape, dtype=np.float32)",
            "np.random.standard_normal(mean.shape).astype(np.float32)",
        ),
        (
            "the noise in float64",
            "float64",
            "rng.standard_normal(mean.shape, dtype=np.float32)",
            "rng.standard_normal(mean.shape)",
        ),
        ("a generator of its own", "generator of your own", "rng.standard_normal(mean.shape",
         "np.random.default_rng(7).standard_normal(mean.shape"),
        ("the encoder sees gray images", "before the encoder", "self.encoder(images, caption)",
         "self.encoder(shard.images, caption)"),
        ("metrics of the wrong sign", "", '"kl": float(kl.data.sum())', '"kl": kl.data.sum(keepdims=True)'),
    ],
    "dropping-captions": [
        (
            "a fixed share, permuted",
            "a fixed share",
            "",
            "result = tokens.copy()\n"
            "result[rng.permutation(len(tokens))[: round(probability * len(tokens))]] = 0\nreturn result",
        ),
        (
            "a stride from a random start",
            "a fixed share",
            "",
            "result = tokens.copy()\nif probability > 0:\n    step = max(1, round(1 / probability))\n"
            "    result[int(rng.integers(step)) :: step] = 0\nreturn result",
        ),
        ("NumPy's own generator", "np.random", "rng.random(", "np.random.random("),
        (
            "the tokens as floats",
            "float64",
            "np.where(dropped[:, None], 0, tokens)",
            "np.where(dropped[:, None], 0.0, tokens)",
        ),
    ],
    "drawing-times": [
        ("NumPy's own generator", "np.random", "rng.random()", "np.random.random()"),
        ("the same at every draw", "does not come from rng", "rng.random()", "np.random.default_rng(0).random()"),
        ("floats", "whole numbers", "steps - 1) + 1", "steps - 1) + 1.0"),
    ],
    "sampling-loop": [
        (
            "the same noise at every step",
            "draw anew",
            "last = None",
            "noise = None if rng is None else rng.standard_normal(x.shape)\n"
            "rng = type('', (), {'standard_normal': lambda s, _: noise})()\nlast = None",
        ),
        ("NumPy's own generator", "np.random", "rng.standard_normal(x.shape)", "np.random.standard_normal(x.shape)"),
        (
            "one noise for the batch",
            "one noise for the whole batch",
            "rng.standard_normal(x.shape)",
            "rng.standard_normal(x.shape[1:])",
        ),
        (
            "one buffer yielded again and again",
            "a new array",
            "    x, variance = step(x, aim, ab_t, ab_s)",
            "    mean, variance = step(x, aim, ab_t, ab_s)\n"
            "    x = x if t != times[0] else x.copy()\n    x[...] = mean",
        ),
        ("float64 from the noise", "float64", ".astype(x.dtype)", ""),
        ("float64 from the root", "float64", "math.sqrt(variance)", "np.sqrt(np.float64(variance))"),
    ],
    "discriminator-step": [
        ("moved by the noise itself", "step * noise", "np.float32(step) * rng", "rng"),
        ("not divided by step squared", "step squared",
         "finite_difference_penalty(scores[: 2 * n], scores[2 * n :], step)",
         "(scores[2 * n :] - scores[: 2 * n]) ** 2"),
        ("the penalty teaches nothing", "is to teach it", "F.sum(penalty) *", "F.sum(penalty).detach() *"),
        (
            "one direction for all pictures",
            "one noise for the whole batch",
            "rng.standard_normal(both.shape, dtype=np.float32)",
            "rng.standard_normal(both.shape[1:], dtype=np.float32)",
        ),
        (
            "NumPy's own generator",
            "np.random",
            "rng.standard_normal(both.shape, dtype=np.float32)",
            "np.random.standard_normal(both.shape).astype(np.float32)",
        ),
        (
            "pictures in float64",
            "float64",
            "rng.standard_normal(both.shape, dtype=np.float32)",
            "rng.standard_normal(both.shape)",
        ),
    ],
    "discriminator-loss": [
        (
            "softplus that overflows",
            "only at extreme values",
            "F.softplus(fake - real)",
            "F.log(1.0 + F.exp(fake - real))",
        ),
        (
            "float64 by an array of ones",
            "float64",
            "F.softplus(fake - real)",
            "F.softplus(fake - real) * np.ones(real.shape)",
        ),
    ],
    "generator-loss": [
        (
            "softplus that overflows",
            "only at extreme values",
            "F.softplus(real - fake)",
            "F.log(1.0 + F.exp(real - fake))",
        ),
    ],
    "importance-weighted-bound": [
        (
            "the mean of the bounds of chunks",
            "chunks",
            "log_mean_exp(np.concatenate(parts))[None]",
            "np.mean([log_mean_exp(p) for p in parts])[None]",
        ),
        (
            "beyond the range of exp",
            "overflow",
            "log_mean_exp(np.concatenate(parts))[None]",
            "np.log(np.mean(np.exp(np.concatenate(parts))))[None]",
        ),
        ("the caption of the first image", "caption of the first", "tokens[index], noise", "tokens[0], noise"),
        ("one noise for all images", "each wants its own", '"importance weights", index', '"importance weights", 0'),
        ("the largest weight", "largest weight alone", "log_mean_exp(np.concatenate(parts))[None]",
         "np.concatenate(parts).max()[None]"),
        ("the mean over latents", "", "-0.5 * np.sum(z**2, axis=1)", "-0.5 * np.mean(z**2, axis=1)"),
        (
            "other numbers at every call",
            "seed",
            'derive_rng(seed, "importance weights", index)',
            "np.random.default_rng()",
        ),
        ("the same noise for every seed", "seed", "derive_rng(seed,", "derive_rng(0,"),
    ],
    "noising": [
        (
            "one time for the batch",
            "first",
            "signal_and_noise(alpha_bar, t, x0)",
            "signal_and_noise(alpha_bar, t[:1], x0)",
        ),
        (
            "float64 by alpha_bar",
            "float64",
            "",
            "ab = alpha_bar[t].reshape(-1, *(1,) * (x0.ndim - 1))\nreturn np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps",
        ),
        ("the batch mixed", "", "signal * x0 + noise * eps", "signal * x0 + noise * eps[::-1]"),
    ],
    "clean-image": [
        (
            "one time for the batch",
            "first",
            "signal_and_noise(alpha_bar, t, x_t)",
            "signal_and_noise(alpha_bar, np.ravel(t)[:1], x_t)",
        ),
    ],
    "ddim-step": [
        ("float64 by a root of NumPy", "float64", "math.sqrt(ab_s) * x0", "np.sqrt(ab_s) * x0"),
        (
            "the root of the variance for the variance",
            "standard deviation",
            "* eps, variance",
            "* eps, math.sqrt(variance)",
        ),
    ],
    "posterior": [("float64 by a root of NumPy", "float64", "(math.sqrt(ab_s)", "(np.sqrt(ab_s)")],
    "second-order": [
        ("float64 by NumPy's log", "float64", "share * (second - first)", "np.float64(share) * (second - first)")
    ],
    "guidance": [("float64", "float64", "weight * conditional", "np.float64(weight) * conditional")],
    "schedule": [
        (
            "float32",
            "dtype",
            "return np.concatenate([[1.0], np.cumprod(1 - beta)])",
            "return np.concatenate([[1.0], np.cumprod(1 - beta)]).astype(np.float32)",
        )
    ],
    "inpainting": [
        ("one noise for the batch", "", "rng.standard_normal(x.shape)",
         "np.broadcast_to(rng.standard_normal(x.shape[1:]), x.shape)"),
        ("float64 by a draw", "float64", ".astype(x.dtype)", ""),
        ("noise not from rng", "rng", "rng.standard_normal(x.shape)", "np.random.standard_normal(x.shape)"),
        ("the same noise again and again", "draw anew", "for t, s in zip(",
         "once = normal()\nnormal = lambda: once\nfor t, s in zip("),
        ("one noise for the batch on the way back", "one noise for the whole batch",
         "math.sqrt(1 - ab_t / ab_s) * normal()", "math.sqrt(1 - ab_t / ab_s) * normal()[:1]"),
        ("known pixels pasted into x_t", "do not take the place",
         "mean, variance = posterior(x, np.where(known, clean, predict_clean(x, t)),",
         "x = np.where(known, clean, x)\n        mean, variance = posterior(x, predict_clean(x, t),"),
        ("x changed in place", "new arrays", "x = mean + math.sqrt(variance) * normal()",
         "x[...] = mean + math.sqrt(variance) * normal()"),
    ],
    "straight-paths": [
        ("a list", "an array of it", "return (1 - u) ** 2 / ((1 - u) ** 2 + u**2)",
         "return list((1 - u) ** 2 / ((1 - u) ** 2 + u**2))"),
        ("float32", "dtype", "np.arange(steps + 1)", "np.arange(steps + 1, dtype=np.float32)"),
    ],
    "time-embedding": [
        ("float32", "dtype", "axis=1)", "axis=1).astype(np.float32)"),
        ("from 1 on", "", "np.asarray(t, np.float64)", "np.asarray(t + 1, np.float64)"),
    ],
    "reparameterise": [
        (
            "a draw by an array",
            "",
            "return mean + F.exp(log_var * 0.5) * noise",
            "return mean.data + np.exp(log_var.data * 0.5) * noise",
        )
    ],
    "coupling-forward": [
        (
            "float64",
            "float64",
            "return b * F.exp(log_scale) + shift",
            "return b * F.exp(log_scale) + (shift + np.zeros(shift.shape))",
        )
    ],
    "coupling-inverse": [
        (
            "an array",
            "Tensor",
            "return (z - shift) * F.exp(-log_scale)",
            "return (z.data - shift.data) * np.exp(-log_scale.data)",
        )
    ],
    "dequantise": [("cut off, not rounded", "", "levels(images)", "np.floor(images * images.dtype.type(255))")],
    "actnorm": [
        ("epsilon inside the logarithm alone", "", "-mean / (deviation + 1e-6)", "-mean / (deviation + 1e-2)"),
        (
            "by the first image",
            "first image",
            "x.data.mean(axis=(0, 1, 2)), x.data.std(axis=(0, 1, 2))",
            "x.data[0].mean(axis=(0, 1)), x.data[0].std(axis=(0, 1))",
        ),
    ],
    "contradicting-captions": [
        ("the variant is not read", "variant", "self._parse(text))", 'self._parse(text) if name != "variant")'),
        ("only the digit is read", "", "self._parse(text))", 'self._parse(text) if name == "digit")'),
    ],
    "frechet-distance": [
        (
            "a formula for two dimensions",
            "",
            "2 * roots.sum()",
            "2 * (lambda m: np.sqrt(max(0, np.trace(m) + 2 * np.sqrt(max(0, np.linalg.det(m))))))("
            "a.covariance @ b.covariance)",
        ),
    ],
}
