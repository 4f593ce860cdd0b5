"""What people get wrong in the four families: exercise -> (about, cause, old, new)."""

FAMILIES = {
    "reparameterise": [
        ("the variance as deviation", "variance is taken for", "log_var * 0.5", "log_var"),
        ("no noise", "noise is left out", " * noise", " * 0 * noise"),
    ],
    "gaussian-kl": [
        ("the half is missing", "half is missing", "0.5 * _by_example", "_by_example"),
        ("the sign of log_var", "log_var has the wrong sign", "terms -= log_var", "terms += log_var"),
    ],
    "flow-likelihood": [
        ("the sign of the determinant", "sign of log_det", "+ log_det", "- log_det"),
        ("the determinant cut off", "log_det has to stay", "+ log_det", "+ log_det.detach()"),
        ("the dequantiser forgotten", "slope of the dequantiser", " + log_slope", ""),
    ],
    "bce-with-logits": [
        ("the target left out", "target is left out", "losses -= logits * target", "pass"),
        ("the mean", "the sum is wanted", ".sum(axis=1)", ".mean(axis=1)"),
    ],
    "actnorm": [
        ("the shift unscaled", "has to be scaled, too", "-mean / (deviation + 1e-6)", "-mean"),
        ("the scale inverted", "the scale is inverted", "-np.log(deviation + 1e-6)", "np.log(deviation + 1e-6)"),
    ],
    "elbo": [
        ("a draw cut off", "no .data in the draw", "z = reparameterise(mean,", "z = reparameterise(mean.detach(),"),
        ("a KL weight that is never used", "beta is not used", "kl * self.config.beta", "kl"),
        ("the sign of the KL", "KL term has the wrong sign", "error + kl", "error - kl"),
        (
            "divided by the shard's length", "divide by shard.batch_size",
            "F.sum(error + kl * self.config.beta) * (1 / shard.batch_size)",
            "F.sum(error + kl * self.config.beta) * (1 / len(images))",
        ),
    ],
    "importance-weighted-bound": [
        (
            "the mean of the logarithms", "mean of the logarithms",
            "return log_mean_exp(np.concatenate(parts))[None]",
            "return np.concatenate(parts).mean()[None]",
        ),
    ],
    "coupling-forward": [
        (
            "a log-determinant with the wrong sign", "sign is flipped",
            "sum_per_example(log_scale)",
            "-sum_per_example(log_scale)",
        ),
        ("log_scale as the scale", "used as the scale", "F.exp(log_scale)", "log_scale"),
    ],
    "coupling-inverse": [
        (
            "the scale first", "undone before the shift",
            "(z - shift) * F.exp(-log_scale)",
            "z * F.exp(-log_scale) - shift",
        ),
        (
            "the forward map again", "forward map again",
            "(z - shift) * F.exp(-log_scale)",
            "z * F.exp(log_scale) + shift",
        ),
    ],
    "squeeze": [
        (
            "the channel outermost", "outermost",
            "*range(2, 2 * k + 1, 2), 2 * k + 1)",
            "2 * k + 1, *range(2, 2 * k + 1, 2))",
        ),
    ],
    "dequantise": [
        ("divided by 255", "divided by 255", "1 / 256", "1 / 255"),
    ],
    "bits-per-dimension": [
        ("nats", "nats, not bits", "dimensions * math.log(2)", "dimensions"),
        ("the 8 bits are missing", "8 bits", "8 - log_density", "-log_density"),
    ],
    "schedule": [
        ("not limited", "no step may add more", "np.minimum(1 - f[1:] / f[:-1], 0.999)", "1 - f[1:] / f[:-1]"),
        ("the cosine is not squared", "not squared", "/ 2) ** 2", "/ 2)"),
    ],
    "inpainting": [
        ("the known pixels not used", "do not take the place", "np.where(known, clean, predict_clean(x, t))",
         "predict_clean(x, t)"),
        ("the mask the wrong way round", "wrong way round", "np.where(known, clean, predict_clean(x, t))",
         "np.where(known, predict_clean(x, t), clean)"),
        ("no noise put back", "x_t from x_s", "if left:", "if False:"),
        ("noise put back after the last round", "", "if left:", "if True:"),
        ("one round", "`rounds` times", "reversed(range(rounds))", "[0]"),
        ("all of the noise put back", "x_t from x_s", "math.sqrt(1 - ab_t / ab_s)", "math.sqrt(1 - ab_t)"),
        ("not faded on the way back", "x_t from x_s", "math.sqrt(ab_t / ab_s) * x", "x"),
        ("the variance as deviation", "", "math.sqrt(variance) * normal()", "variance * normal()"),
    ],
    "tubelets": [
        ("the channel before the place in the patch", "", "(n, *counts, *edges, c // math.prod(edges))",
         "(n, *counts, c // math.prod(edges), *edges)"),
        ("the axes not brought together", "", "for axis in (i, k + i)]", "for axis in (k + i, i)]"),
        ("a reshape alone", "reshape alone", "F.transpose(cut, order)", "cut"),
        ("the first edge for all", "", "edges = _edges(patch, k)", "edges = _edges(patch, k)[:1] * k"),
    ],
    "straight-paths": [
        ("all of the way", "so that", "0.9999 * ", ""),
        ("the amplitude", "share of the variance", "(1 - u) ** 2 / ((1 - u) ** 2 + u**2)",
         "(1 - u) / np.hypot(1 - u, u)"),
        ("not brought to variance one", "variance one", "(1 - u) ** 2 / ((1 - u) ** 2 + u**2)", "(1 - u) ** 2"),
        ("the noise's share", "share of the noise", "return (1 - u) ** 2", "return u**2"),
        ("without ab_0", "ab_0 is left out", "np.arange(steps + 1)", "np.arange(1, steps + 1)"),
    ],
    "noising": [
        (
            "the roots are missing", "roots are missing",
            "return signal * x0 + noise * eps",
            "return signal**2 * x0 + noise**2 * eps",
        ),
        (
            "the time is off by one", "off by one",
            "signal_and_noise(alpha_bar, t, x0)",
            "signal_and_noise(alpha_bar, t - 1, x0)",
        ),
    ],
    "drawing-times": [
        ("never the largest t", "at 0 there is no noise", "steps - 1) + 1", "steps - 1)"),
        (
            "T is never drawn", "largest noise level",
            "np.minimum(np.floor(fractions * steps).astype(np.int64), steps - 1) + 1",
            "np.minimum(np.floor(fractions * (steps - 1)).astype(np.int64), steps - 1) + 1",
        ),
        ("the shares one time too early", "belongs to t = 1", 'side="right").astype(np.int64) + 1', 'side="right")'),
        ("no shares", "share of all draws", "share is not None", "share is Ellipsis"),
    ],
    "dropping-captions": [
        (
            "the whole batch at once", "for the whole batch",
            "rng.random(len(tokens)) < probability",
            "np.full(len(tokens), rng.random() < probability)",
        ),
        ("the wrong way round", "wrong way round", "< probability", "> probability"),
    ],
    "time-embedding": [
        ("cosines first", "cosines come first", "[np.sin(angles), np.cos(angles)]", "[np.cos(angles), np.sin(angles)]"),
    ],
    "posterior": [
        (
            "the weights exchanged", "each other's weights",
            "(math.sqrt(ab_s) * beta / (1 - ab_t)) * x0 + (math.sqrt(alpha) * (1 - ab_s) / (1 - ab_t)) * x_t",
            "(math.sqrt(ab_s) * beta / (1 - ab_t)) * x_t + (math.sqrt(alpha) * (1 - ab_s) / (1 - ab_t)) * x0",
        ),
        (
            "beta as the variance", "variance of the step",
            "return mean, beta * (1 - ab_s) / (1 - ab_t)",
            "return mean, beta",
        ),
    ],
    "ddim-step": [
        ("all of the noise is kept", "takes its share", "1 - ab_s - variance", "1 - ab_s"),
        ("eta, not its square", "eta enters as its square", "eta**2", "eta"),
    ],
    "training-target": [
        ("the sign of v", "the sign of v", "signal * eps - noise * x0", "noise * x0 - signal * eps"),
        ("the roles exchanged", "exchanged", "signal * eps - noise * x0", "noise * eps - signal * x0"),
        ("the velocity backwards", "wrong sign", "eps - x0", "x0 - eps"),
        ("v for the velocity", "another kind", 'if kind == "velocity":', "if False:"),
        ("v for the image", "another kind", 'if kind == "image":', "if False:"),
    ],
    "clean-image": [
        ("not scaled back", "not brought back", "(x_t - noise * output) / signal", "x_t - noise * output"),
        ("v for the image", "the image itself", 'if kind == "image":', "if False:"),
        ("the velocity not scaled back", "not brought back", "(x_t - noise * output) / (signal + noise)",
         "x_t - noise * output"),
    ],
    "ddpm-loss": [
        ("always the noise", "another target", "alpha_bar, config.prediction)", 'alpha_bar, "noise")'),
        ("images from 0 to 1", "from [0, 1] to [-1, 1]", "shard.images * 2 - 1", "shard.images"),
        ("captions kept", "no caption is dropped", "config.caption_dropout", "0.0"),
        ("even times", "training_share", ", self.training_share)", ")"),
    ],
    "second-order": [
        (
            "to the middle of the step", "in its middle",
            "log_snr(ab_s) - 1 + h / math.expm1(h)",
            "log_snr(ab_s) - h / 2",
        ),
        ("the squares of signal and noise", "of their squares", "0.5 * math.log", "math.log"),
    ],
    "guidance": [
        (
            "the sign of the guidance", "sign of the guidance",
            "(1 - weight) * unconditional + weight * conditional",
            "(1 + weight) * unconditional - weight * conditional",
        ),
        (
            "the two exchanged", "exchanged",
            "(1 - weight) * unconditional + weight * conditional",
            "(1 - weight) * conditional + weight * unconditional",
        ),
    ],
    "sampling-loop": [
        ("the guess at s", "not at s", "predict_clean(x, t)", "predict_clean(x, s)"),
        (
            "no step is taken again", "from before the step that led here",
            "x, _ = step(x_r, average_guess(x0_r, ab_r, x0, ab_t, ab_r, ab_t), ab_r, ab_t)",
            "pass",
        ),
        ("again from where it led", "from where it led", "step(x_r, average_guess", "step(x, average_guess"),
        (
            "no look ahead", "did not look ahead",
            "aim = average_guess(x0_r, ab_r, x0, ab_t, ab_t, ab_s)",
            "pass",
        ),
        ("the variance as deviation", "root of the variance", "math.sqrt(variance) * rng", "variance * rng"),
        (
            "the index wraps around", "may wrap around",
            "float(alpha_bar[t]), float(alpha_bar[s])",
            "float(alpha_bar[t - 1]), float(alpha_bar[s - 1])",
        ),
    ],
    "discriminator-loss": [
        ("real and fake exchanged", "exchanged", "fake - real", "real - fake"),
    ],
    "generator-loss": [
        (
            "minus the discriminator's loss", "minus the discriminator",
            "F.softplus(real - fake)",
            "-F.softplus(fake - real)",
        ),
    ],
    "discriminator-step": [
        ("no lies are shown", "lie are not shown", "if false_tokens is not None:", "if False:"),
        ("lies not weighed", "not weighed by `lies`", "on_real, on_lie) * lies", "on_real, on_lie)"),
        ("half of gamma", "half of gamma", "gamma / 2", "gamma"),
        ("one side cut off", "", "contest = relativistic_discriminator_loss(on_real, on_fake)",
         "contest = relativistic_discriminator_loss(on_real.detach(), on_fake)"),
        (
            "uniform directions", "uniform numbers",
            "rng.standard_normal(", "rng.random(",
        ),
    ],
    "fixed-point": [
        ("real and fake exchanged", "exchanged", "(on_real, on_fake)", "(on_fake, on_real)"),
        ("the discriminator's loss, negative", "its gradient fades",
         "F.sum(relativistic_generator_loss(on_real, on_fake))",
         "-F.sum(relativistic_discriminator_loss(on_real, on_fake))"),
        ("the real one is not looked at", "does not look at the real one",
         "(on_real, on_fake)", "(on_real * 0.0, on_fake)"),
        ("the mean over the pairs", "not the mean", "F.sum(relativistic", "F.mean(relativistic"),
        ("the first pair only", "the first pair only", "F.sum(relativistic_generator_loss(on_real, on_fake))",
         "relativistic_generator_loss(on_real, on_fake)[0]"),
        ("no gradient through fake", "only real needs none", "critic.look(fake)", "critic.look(Tensor(fake.data))"),
        ("the empty caption for both", "not told to the critic", "",
         "with no_grad():\n    on_real = critic.score(critic.look(Tensor(real)), tokens * 0)\n"
         "return F.sum(F.softplus(on_real - critic.score(critic.look(fake), tokens * 0)))"),
        ("one caption for all", "one caption for the whole batch", "",
         "tokens = np.repeat(tokens[:1], len(real), axis=0)\n"
         "with no_grad():\n    on_real = critic.score(critic.look(Tensor(real)), tokens)\n"
         "return F.sum(F.softplus(on_real - critic.score(critic.look(fake), tokens)))"),
        ("the real one in another order", "", "(on_real, on_fake)", "(on_real[::-1], on_fake)"),
        ("brought to -1 ... 1 once more", "", "Tensor(real)", "Tensor(real * 2 - 1)"),
        ("softplus that overflows", "extreme values", "relativistic_generator_loss(on_real, on_fake)",
         "F.log(1.0 + F.exp(on_real - on_fake))"),
    ],
    "contradicting-captions": [
        ("the wrong way round", "wrong way round", "return any(", "return not any("),
        (
            "all has to be false", "only where one thing of many is false",
            "return any(",
            "return bool(self._parse(text)) and all(",
        ),
    ],
    "frechet-distance": [
        ("the means forgotten", "means are not looked at", "shift @ shift + ", ""),
        ("the common part once", "twice the root", "2 * roots.sum()", "roots.sum()"),
    ],
    "soft-minimum": [
        ("not the mean", "P(k_1) = 1 / K", "- math.log(codes)", ""),
        ("not times tau", "not multiplied by tau", "* -tau", "* -1"),
        ("nothing stays", "only taken away", "math.log(max(sticky, 1e-30))", "math.log(1e-30)"),
        (
            "the hard minimum", "",
            "return F.logsumexp(reached, axis=1) * -tau", "return Tensor(-tau * reached.data.max(1))",
        ),
    ],
}
