"""More right solutions, by how people write: other draws from the same generator, other orders, sums by hand.

Like solutions.py, of which these are not variations: by exercise, any number of bodies.
"""

MORE = {
    "ddpm-loss": [
        """
    # independent times, as in Ho et al. 2020, and draws in another order and shape
    config, n, alpha_bar = self.config, len(shard.images), self.alpha_bar
    kept = rng.binomial(1, 1 - config.caption_dropout, n).astype(shard.tokens.dtype)
    eps = rng.normal(size=shard.images.size).astype(np.float32).reshape(shard.images.shape)
    share = np.arange(1, config.time_steps + 1) / config.time_steps
    share = share if self.training_share is None else self.training_share
    t = rng.choice(np.arange(1, config.time_steps + 1), size=n, p=np.diff(share, prepend=0.0))
    x0 = shard.images * np.float32(2) - np.float32(1)
    x_t = process.q_sample(x0, t, eps, alpha_bar)
    guess = self.network(Tensor(x_t), t, self.text(shard.tokens * kept[:, None]))
    error = guess - process.training_target(x0, t, eps, alpha_bar, config.prediction)
    return F.sum(error * error) * (1 / (x0[0].size * shard.batch_size)), {"largest": int(t.max())}
    """,
    ],
    "dropping-captions": [
        """
    count = int(rng.binomial(len(tokens), probability))  # how many, and then which
    kept = tokens.copy()
    kept[rng.permutation(len(tokens))[:count]] = 0
    return kept
    """,
        "return tokens * rng.binomial(1, 1 - probability, size=(len(tokens), 1)).astype(tokens.dtype)",
        "gone = rng.choice([True, False], size=len(tokens), p=[probability, 1 - probability])\n"
        "result = np.array(tokens)\nresult[gone] = 0\nreturn result",
    ],
    "drawing-times": [
        """
    places = np.mod(rng.uniform(0, 1) + np.linspace(0, 1, count, endpoint=False), 1)
    if share is None:
        share = np.arange(1, steps + 1) / steps
    times = np.array([1 + sum(place >= s for s in share[:-1]) for place in places], dtype=np.int64)
    return rng.permutation(times)
    """,
    ],
    "elbo": [
        """
    n, ink = len(shard.images), shard.images
    if self.config.likelihood == "bernoulli":
        ink = rng.binomial(1, shard.images.astype(float)).astype(np.float32)
    caption = self.text(shard.tokens)
    mean, log_var = self.encoder(ink, caption)
    noise = rng.normal(size=mean.size).reshape(mean.shape).astype(np.float32)
    z = mean + F.exp(0.5 * log_var) * Tensor(noise)
    nats = self.log_likelihood(self.decoder(z, caption), ink)
    kl = F.sum(mean * mean + F.exp(log_var) - log_var - 1.0, axis=1) * 0.5
    return F.sum(kl * self.config.beta - nats) / shard.batch_size, {}
    """,
    ],
    "reparameterise": ["return mean + Tensor(noise) * F.exp(log_var) ** 0.5"],
    "he-initialisation": [
        "n = math.prod(shape[:-1])\nreturn rng.normal(0.0, math.sqrt(2 / n), shape).astype(np.float32)",
    ],
    "relu-backward": ["(x,) = ctx.saved\nreturn np.where(x > 0, grad, 0).astype(grad.dtype)"],
    "discriminator-loss": [
        "difference = fake - real\n"
        "return F.relu(difference) + F.log(1.0 + F.exp(-(F.relu(difference) + F.relu(-difference))))",
        "return -F.log_softmax(F.stack([real, fake], axis=1), axis=1)[:, 0]",
    ],
    "generator-loss": ["return F.logsumexp(F.stack([real - fake, (real - fake) * 0.0], axis=1), axis=1)"],
    "discriminator-step": [
        """
    pictures, found = [real, fake], []
    directions = rng.normal(size=2 * real.size).reshape(2, *real.shape).astype(np.float32)
    for picture, direction in zip(pictures, directions):
        both = picture, picture + np.float32(step) * direction
        scores = [critic.score(critic.look(Tensor(p)), tokens) for p in both]
        found.append(scores)
    (on_real, near_real), (on_fake, near_fake) = found
    loss = F.sum(F.softplus(on_fake - on_real))
    if false_tokens is not None:
        loss = loss + lies * F.sum(F.softplus(critic.score(critic.look(Tensor(real)), false_tokens) - on_real))
    slopes = ((near_real - on_real) * (1 / step)) ** 2 + ((near_fake - on_fake) * (1 / step)) ** 2
    return loss + F.sum(slopes) * (gamma * 0.5), {"penalty": float(slopes.data.sum())}
    """,
    ],
    "fixed-point": [
        """
    total = 0.0  # one pair at a time
    for i in range(len(real)):
        on_real, on_fake = (
            critic.score(critic.look(image), tokens[i : i + 1]) for image in (Tensor(real[i : i + 1]), fake[i : i + 1])
        )
        total = total + F.softplus(on_real - on_fake)
    return F.sum(total)
    """,
        """
    features = critic.look(F.concat([Tensor(real), fake], axis=0))
    scores = F.reshape(critic.score(features, np.tile(tokens, (2, 1))), (2, -1))
    return -F.sum(F.log_softmax(F.transpose(scores, (1, 0)), axis=1)[:, 1])
    """,
        """
    with no_grad():
        to_beat = critic.score(critic.look(Tensor(real)), tokens).data
    margin = critic.score(critic.look(fake), tokens) - to_beat
    return F.sum(F.relu(-margin) + F.log(1.0 + F.exp(-(F.relu(margin) + F.relu(-margin)))))
    """,
    ],
    "sampling-loop": [
        """
    for i, t in enumerate(times[:-1]):
        s = times[i + 1]
        here, there = float(alpha_bar[t]), float(alpha_bar[s])
        guess = predict_clean(x, t)
        target = guess
        if second_order and i:
            x = step(start, average_guess(before, past, guess, here, past, here), past, here)[0]
            target = guess if s == 0 else average_guess(before, past, guess, here, here, there)
        yield x, guess
        start, before, past = x, guess, here
        x, variance = step(x, target, here, there)
        if variance:
            x = np.asarray(rng.normal(x, math.sqrt(variance)), dtype=x.dtype)
    yield x, x
    """,
    ],
    "importance-weighted-bound": [
        """
    rng = np.random.default_rng(seed + 12345)
    caption = model.text(model.vocabulary.encode(captions))
    mean, log_var = model.encoder(images, caption)
    n, latent = mean.shape
    eps = rng.standard_normal((n, k, latent), dtype=np.float32)
    z = mean.data[:, None] + np.exp(0.5 * log_var.data)[:, None] * eps
    told = Tensor(np.repeat(caption.data, k, axis=0))
    outputs = model.decoder(Tensor(z.reshape(n * k, latent).astype(np.float32)), told)
    log_p = model.log_likelihood(outputs, np.repeat(images, k, axis=0)).data.reshape(n, k).astype(np.float64)
    logs = log_p + 0.5 * (eps**2 - z**2 + log_var.data[:, None]).sum(axis=2)
    return np.logaddexp.reduce(logs, axis=1) - np.log(k)
    """,
        """
    tokens = model.vocabulary.encode(captions)
    bounds = np.zeros(len(images))
    for i in range(len(images)):
        rng = np.random.default_rng([seed, i])
        caption = model.text(tokens[i : i + 1])
        mean, log_var = model.encoder(images[i : i + 1], caption)
        eps = rng.standard_normal((k, mean.shape[1])).astype(np.float32)
        z = mean.data + np.exp(log_var.data / 2) * eps
        many = np.repeat(images[i : i + 1], k, axis=0)
        log_p = model.log_likelihood(model.decoder(Tensor(z), Tensor(np.repeat(caption.data, k, axis=0))), many).data
        logs = log_p - (z**2).sum(axis=1) / 2 + (eps**2).sum(axis=1) / 2 + log_var.data.sum() / 2
        top = logs.max()
        bounds[i] = top + math.log(np.mean(np.exp(logs.astype(float) - top)))
    return bounds
    """,
    ],
    "log-softmax-backward": [
        "(y,) = ctx.saved\ntotal = np.add.reduce(grad, axis=ctx.axis, keepdims=True)\nreturn grad - total * np.exp(y)",
    ],
    "momentum": [
        "np.multiply(self.velocity, self.momentum, out=self.velocity)\nself.velocity += gradient * scale\n"
        "np.subtract(self.values, self.velocity * rate, out=self.values)"
    ],
    "ema": ["self.average += (1 - self.current_decay()) * (self.values - self.average)\nself.count += 1"],
    "adam": [
        "self.count += 1\ng = gradient * scale\nself.m += (1 - self.betas[0]) * (g - self.m)\n"
        "self.v += (1 - self.betas[1]) * (np.square(g) - self.v)\n"
        "size = rate * math.sqrt(1 - self.betas[1] ** float(self.count)) / (1 - self.betas[0] ** float(self.count))\n"
        "root = np.sqrt(self.v) + self.epsilon * math.sqrt(1 - self.betas[1] ** float(self.count))\n"
        "self.values[:] = self.values - size * self.m / root",
    ],
    "parameters": [
        "found = {}\nfor name, p in self._walk(Parameter):\n    found.setdefault(id(p), (name, p))\n"
        "return list(found.values())"
    ],
    "dequantise": ["return (np.floor(images * 255 + 0.5) + noise) / 256"],
    "bits-per-dimension": ["return (math.log(256) * dimensions - log_density) / (math.log(2) * dimensions)"],
    "coupling-forward": [
        "return shift + F.exp(log_scale) * b, F.sum(F.reshape(log_scale, (log_scale.shape[0], -1)), axis=1)"
    ],
    "coupling-inverse": ["return (z - shift) / F.exp(log_scale)"],
    "actnorm": [
        "rows = x.data.reshape(-1, x.shape[-1])\nspread = np.sqrt(((rows - rows.mean(0)) ** 2).mean(0)) + 1e-7\n"
        "np.copyto(self.log_scale.data, -np.log(spread))\nnp.copyto(self.shift.data, -rows.mean(0) / spread)\n"
        "return x * F.exp(self.log_scale) + self.shift",
    ],
    "gaussian-kl": [
        "ctx.save(mean, np.expm1(log_var))\nflat = lambda a: a.reshape(len(a), -1)\n"
        "return (flat(np.exp(log_var)) + flat(mean) ** 2 - 1 - flat(log_var)).sum(-1) / 2",
    ],
    "inpainting": [
        """
    # as in the paper: the known pixels of x_s are drawn for themselves
    for now, after in zip(times, times[1:]):
        a, b = float(alpha_bar[now]), float(alpha_bar[after])
        for turn in range(rounds):
            mean, variance = posterior(x, predict_clean(x, now), a, b)
            unknown = rng.normal(mean, math.sqrt(variance)).astype(x.dtype)
            eps = rng.normal(size=x.shape).astype(x.dtype)
            x = np.where(known, clean if b == 1 else math.sqrt(b) * clean + math.sqrt(1 - b) * eps, unknown)
            if turn + 1 < rounds:
                eps = rng.normal(size=x.size).reshape(x.shape).astype(x.dtype)
                x = math.sqrt(a / b) * x + math.sqrt(1 - a / b) * eps
    return x
    """,
        """
    kept = np.broadcast_to(known, x.shape)
    for i in range(len(times) - 1):
        ab_t, ab_s = float(alpha_bar[times[i]]), float(alpha_bar[times[i + 1]])
        here = x
        for _ in range(rounds):
            guess = np.array(predict_clean(here, times[i]))
            guess[kept] = np.broadcast_to(clean, x.shape)[kept]
            mean, variance = posterior(here, guess, ab_t, ab_s)
            there = mean + (variance**0.5 * rng.standard_normal(x.shape)).astype(x.dtype)
            share = ab_t / ab_s
            here = share**0.5 * there + ((1 - share) ** 0.5 * rng.standard_normal(x.shape)).astype(x.dtype)
        x = there
    return x
    """,
    ],
    "tubelets": [
        """
    import numpy as np

    k = len(x.shape) - 2
    edges = _edges(patch, k)
    inside = math.prod(edges)
    c = x.shape[-1] // inside
    counts = x.shape[1:-1]
    where = np.arange(math.prod(x.shape)).reshape(x.shape[0], *counts, *edges, c)
    axes = [0]
    for i in range(k):
        axes += [1 + i, 1 + k + i]
    where = where.transpose(*axes, 2 * k + 1).reshape(x.shape[0], *[a * b for a, b in zip(counts, edges)], c)
    return F.reshape(x, (-1,))[where]
    """,
        """
    k = len(x.shape) - 2
    edges = _edges(patch, k)
    c = x.shape[-1] // math.prod(edges)
    counts = x.shape[1:-1]
    x = F.reshape(x, (x.shape[0], *counts, *edges, c))
    for axis in range(k):  # one axis at a time: its inner axis is moved beside it, and both become one
        inner = 1 + k
        order = [i for i in range(len(x.shape)) if i != inner]
        order.insert(axis + 2, inner)
        x = F.transpose(x, tuple(order))
        shape = list(x.shape)
        shape[axis + 1 : axis + 3] = [shape[axis + 1] * shape[axis + 2]]
        x = F.reshape(x, tuple(shape))
        x = F.reshape(x, (*x.shape[: 1 + k], *x.shape[1 + k :]))
    return x
    """,
    ],
    "straight-paths": [
        "ratio = np.array([0.9999 * t / (steps - 0.9999 * t) for t in range(steps + 1)])\nreturn 1 / (1 + ratio**2)",
        "u = np.linspace(0, 0.9999, steps + 1)\nsignal = (1 - u) / np.hypot(1 - u, u)\nreturn signal**2",
    ],
    "noising": [
        "rows = [math.sqrt(alpha_bar[k]) * a + math.sqrt(1 - alpha_bar[k]) * e for a, k, e in zip(x0, t, eps)]\n"
        "return np.stack(rows)",
    ],
    "training-target": [
        "if kind in ('noise', 'image'):\n    return (eps if kind == 'noise' else x0).copy()\n"
        "if kind == 'velocity':\n    return -(x0 - eps)\n"
        "ab = alpha_bar[t].astype(x0.dtype).reshape((-1,) + (1,) * (x0.ndim - 1))\n"
        "return np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0",
    ],
    "time-embedding": [
        "half = features // 2\nwaves = np.logspace(0, -4, half) if half > 1 else np.ones(1)\n"
        "angles = np.outer(t, waves)\nreturn np.hstack([np.sin(angles), np.cos(angles)])",
    ],
    "ddim-step": [
        "fresh = eta * math.sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))\n"
        "noise = (x_t - math.sqrt(ab_t) * x0) / math.sqrt(1 - ab_t)\n"
        "return math.sqrt(ab_s) * x0 + math.sqrt(max(1 - ab_s - fresh**2, 0)) * noise, fresh**2",
    ],
    "contradicting-captions": [
        "said = self.parse(text)\nfor name in said:\n    if attributes[name] != said[name]:\n"
        "        return True\nreturn False",
    ],
    "polar": [
        "if not np.any(matrix):\n    return np.zeros(matrix.shape, matrix.dtype)\n"
        "x = (matrix / np.linalg.norm(matrix)).astype(matrix.dtype)\nfor _ in range(40):\n"
        "    x = 1.5 * x - 0.5 * (x @ (x.T @ x) if len(x) >= len(x.T) else (x @ x.T) @ x)\nreturn x",
    ],
    "frechet-distance": [
        """
    a, b = (c if isinstance(c, Moments) else Moments.of(c) for c in (a, b))
    if a.mean.size != b.mean.size:
        raise MetricError("not of one size")

    def root(matrix):
        u, s, _ = np.linalg.svd(matrix, hermitian=True)
        return u * np.sqrt(s)

    common = np.linalg.svd(root(a.covariance).T @ root(b.covariance), compute_uv=False).sum()
    apart = ((a.mean - b.mean) ** 2).sum()
    return np.maximum(0.0, apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * common)
    """,
    ],
    "group-norm-backward": [
        """
    dx, dgamma = np.zeros_like(x), np.zeros_like(gamma)
    for n in range(len(x)):
        for cs in np.split(np.arange(x.shape[2]), groups):
            part = x[n][:, cs]
            inverse = 1 / np.sqrt(part.var() + eps)
            hat = (part - part.mean()) * inverse
            g = grad[n][:, cs] * gamma[cs]
            dx[n][:, cs] = inverse * (g - g.mean() - hat * np.mean(g * hat))
            dgamma[cs] += (grad[n][:, cs] * hat).sum(axis=0)
    return dx, dgamma, grad.sum(axis=(0, 1))
    """,
    ],
    "attention-backward": [
        """
    q, k, v, e, total, y = ctx.saved
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for n in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                p = e[n, h, i] / total[n, h, i]
                jacobian = np.diag(p) - np.outer(p, p)
                ds = jacobian @ (v[n, h] @ grad[n, h, i]) / q.shape[3] ** 0.5
                dq[n, h, i] = ds @ k[n, h]
                dk[n, h] += np.outer(ds, q[n, h, i])
                dv[n, h] += np.outer(p, grad[n, h, i])
    return dq, dk, dv
    """,
        """
    q, k, v, e, total, _ = ctx.saved
    p = e / total
    root = q.shape[-1] ** 0.5
    dp = np.einsum("nhqc,nhkc->nhqk", grad, v)
    ds = p * (dp - (p * dp).sum(axis=-1, keepdims=True)) / root
    return np.einsum("nhqk,nhkd->nhqd", ds, k), np.einsum("nhqk,nhqd->nhkd", ds, q), p.swapaxes(-1, -2) @ grad
    """,
    ],
    "im2col-kernel": [
        """
    for flat in range(out.shape[0] * out.shape[1] * out.shape[2]):
        n, i, j = flat // (out.shape[1] * out.shape[2]), flat // out.shape[2] % out.shape[1], flat % out.shape[2]
        for u in range(kernel_height):
            row = i * stride + u - padding
            for v in range(kernel_width):
                column = j * stride + v - padding
                for c in range(x.shape[3]):
                    out[n, i, j, u, v, c] = 0.0
                    if row >= 0 and column >= 0 and row < x.shape[1] and column < x.shape[2]:
                        out[n, i, j, u, v, c] = x[n, row, column, c]
    """,
    ],
    "soft-minimum": [
        """
    import itertools

    n, rows, codes = errors.shape
    terms = []
    for row in itertools.product(range(codes), repeat=rows):
        log_prior, energy = -math.log(codes), errors[:, 0, row[0]]
        for s in range(1, rows):
            chance = (1 - sticky) / codes + (sticky if row[s] == row[s - 1] else 0.0)
            log_prior = log_prior + math.log(chance)
            energy = energy + errors[:, s, row[s]]
        terms.append(energy * (-1 / tau) + log_prior)
    return F.logsumexp(F.stack(terms, axis=1), axis=1) * -tau
    """,
        """
    n, rows, codes = errors.shape
    moves = np.full((codes, codes), (1 - sticky) / codes) + sticky * np.eye(codes)
    logs = np.log(moves).astype(errors.dtype)
    alpha = errors[:, 0] / -tau - math.log(codes)
    for s in range(1, rows):
        steps = F.reshape(alpha, (n, codes, 1)) + logs
        alpha = F.logsumexp(steps, axis=1) + errors[:, s] / -tau
    return F.logsumexp(alpha, axis=1) * (-tau)
    """,
    ],
    "second-order": [
        """
    lam = lambda ab: (math.log(ab) - math.log1p(-ab)) / 2
    places, weights = np.polynomial.legendre.leggauss(40)
    low, high = lam(ab_t), lam(ab_s)
    here = low + (high - low) * (places + 1) / 2
    weights = weights * np.exp(here - high)
    mean = float((weights * here).sum() / weights.sum())
    slope = (second - first) * (1 / (lam(ab_second) - lam(ab_first)))
    return first + slope * (mean - lam(ab_first))
    """,
    ],
}
