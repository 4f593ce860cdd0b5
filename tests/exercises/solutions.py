"""Right solutions in another style than the library's: whoever writes like this must pass too.  The audit judges them.

By exercise: the body of the function, written with loops, other names, other formulas, or other parts of NumPy.
"""

from tests.exercises.solutions_more import MORE

ALL = {
    "numerical-gradient": """
    # a five-point stencil, with a step of its own
    h = 1e-3
    values = [f(x + k * h * direction) for k in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    """,
    "unbroadcast": """
    while grad.ndim > len(shape):
        grad = grad.sum(axis=0)
    for axis, length in enumerate(shape):
        if length == 1:
            grad = grad.sum(axis=axis, keepdims=True)
    return grad
    """,
    "mul-backward": """
    gradients = []
    for other, wanted in zip(reversed(ctx.saved), ctx.needs):
        gradients.append(np.multiply(other, grad) if wanted else None)
    return tuple(gradients)
    """,
    "sum-backward": """
    return np.broadcast_to(np.reshape(grad, ctx.kept_shape), ctx.shape)
    """,
    "matmul-backward": """
    left, right = ctx.saved
    first = None if right is None else np.einsum("...ij,...kj->...ik", grad, right)
    second = None if left is None else np.einsum("...ki,...kj->...ij", left, grad)
    return first, second
    """,
    "topological-order": """
    # count how many nodes use each one, then take whatever nobody needs any more, from the end
    uses, todo, seen = {node: 0}, [node], {node}
    while todo:
        for parent in _parents(todo.pop()):
            uses[parent] = uses.get(parent, 0) + 1
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    ready, backwards = [node], []
    while ready:
        current = ready.pop()
        backwards.append(current)
        for parent in _parents(current):
            uses[parent] -= 1
            if uses[parent] == 0:
                ready.append(parent)
    return backwards[::-1]
    """,
    "backward": """
    if not self.requires_grad:
        raise RuntimeError("no graph")
    if grad is None:
        if self.data.size != 1:
            raise ValueError("a gradient is needed")
        grad = np.ones_like(self.data)
    grad = np.asarray(grad, self.dtype)
    if grad.shape != self.shape:
        raise ValueError("wrong shape")
    if self.node is None:
        return _add_to_leaf(self, grad)
    arrived = {(self.node, self.output_index): grad}
    for node in reversed(topological_order(self.node)):
        outputs = [arrived.pop((node, i), np.zeros(*output)) for i, output in enumerate(node._outputs)]
        pieces = node.backward(node, *outputs)
        for source, need, piece in zip(node.inputs, node.needs, pieces if isinstance(pieces, tuple) else (pieces,)):
            if not need or piece is None:
                continue
            piece = unbroadcast(piece, source.shape)
            if source.node is None:
                _add_to_leaf(source, piece)
                continue
            key = (source.node, source.output_index)
            arrived[key] = arrived[key] + piece if key in arrived else piece
        node.free()
    """,
    "log-softmax": """
    rows = np.moveaxis(x, axis, -1)
    result = np.empty_like(rows)
    for index in np.ndindex(rows.shape[:-1]):
        top = rows[index].max()
        result[index] = rows[index] - top - np.log(sum(np.exp(v - top) for v in rows[index]))
    ctx.axis = axis
    ctx.save(np.ascontiguousarray(np.moveaxis(result, -1, axis)))
    return ctx.saved[0]
    """,
    "cross-entropy": """
    log_total = np.logaddexp.reduce(logits, axis=1)
    probabilities = np.exp(logits - log_total[:, None])
    which = np.arange(logits.shape[0])
    ctx.save(probabilities, which, labels)
    return log_total - np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    """,
    "adam": """
    b1, b2 = self.betas
    self.count[...] = self.count + 1
    for i in range(len(self.values)):
        g = gradient[i] * scale
        self.m[i] += (1 - b1) * (g - self.m[i])
        self.v[i] += (1 - b2) * (g * g - self.v[i])
        root = math.sqrt(self.v[i] / (1 - b2 ** int(self.count)))
        self.values[i] -= rate / (1 - b1 ** int(self.count)) * self.m[i] / (root + self.epsilon)
    """,
    "polar": """
    if not matrix.any():
        return matrix * 0
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    return u @ vt
    """,
    "im2col": """
    count, height, width, channels = x.shape
    rows = (height + 2 * padding - kernel[0]) // stride + 1
    columns = (width + 2 * padding - kernel[1]) // stride + 1
    canvas = np.zeros((count, height + 2 * padding, width + 2 * padding, channels), x.dtype)
    canvas[:, padding : padding + height, padding : padding + width] = x
    out = np.empty((count, rows, columns, *kernel, channels), x.dtype)
    for i in range(rows):
        for j in range(columns):
            out[:, i, j] = canvas[:, i * stride : i * stride + kernel[0], j * stride : j * stride + kernel[1]]
    return out
    """,
    "conv2d-forward": """
    patches = im2col(x, weight.shape[:2], stride, padding)
    return np.einsum("nijuvc,uvco->nijo", patches, weight) + bias
    """,
    "conv2d-input-gradient": """
    n, height, width, channels = shape
    dx = np.zeros(shape, grad.dtype)
    for i, j, u, v in np.ndindex(*grad.shape[1:3], *weight.shape[:2]):
        row, column = i * stride + u - padding, j * stride + v - padding
        if row in range(height) and column in range(width):
            dx[:, row, column] += grad[:, i, j] @ weight[u, v].T
    return dx
    """,
    "conv2d-backward": """
    import numpy as np

    x, w = ctx.saved
    s, p = ctx.stride, ctx.padding
    padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for i in range(grad.shape[1]):
        for j in range(grad.shape[2]):
            window = (slice(None), slice(i * s, i * s + w.shape[0]), slice(j * s, j * s + w.shape[1]))
            dw += np.einsum("nuvc,no->uvco", padded[window], grad[:, i, j])
            dx[window] += np.einsum("no,uvco->nuvc", grad[:, i, j], w)
    return dx[:, p : p + x.shape[1], p : p + x.shape[2]], dw, grad.sum((0, 1, 2))
    """,
    "transposed-convolution": """
    import numpy as np

    ctx.stride, ctx.padding = stride, padding
    ctx.save(x, w)
    n, height, width, _ = x.shape
    kh, kw, _, channels = w.shape
    rows, columns = (height - 1) * stride + kh + output_padding, (width - 1) * stride + kw + output_padding
    full = np.zeros((n, rows, columns, channels), x.dtype)
    for i in range(height):
        for j in range(width):
            stamp = np.einsum("nc,uvco->nuvo", x[:, i, j], w)
            full[:, i * stride : i * stride + kh, j * stride : j * stride + kw] += stamp
    y = full[:, padding : full.shape[1] - padding, padding : full.shape[2] - padding]
    return y if b is None else y + b
    """,
    "group-norm-forward": """
    out = np.empty_like(x)
    for n, image in enumerate(x):
        for channels in np.split(np.arange(x.shape[2]), groups):
            part = image[:, channels]
            out[n][:, channels] = (part - part.mean()) * (part.var() + eps) ** -0.5 * gamma[channels] + beta[channels]
    return out
    """,
    "attention": """
    width = k.shape[-1]
    scores = np.einsum("nhqd,nhkd->nhqk", q, k) / width**0.5
    p = np.exp(scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True))
    y = np.einsum("nhqk,nhkd->nhqd", p, v)
    ctx.save(q, k, v, p, np.ones((*p.shape[:3], 1), p.dtype), y)
    return y
    """,
    "convolution-kernel": """
    out[:] = 0
    kh, kw, channels, filters = weight.shape
    for n in range(x.shape[0]):
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                for u in range(kh):
                    i, left = divmod(row + padding - u, stride)
                    if left != 0 or i < 0 or i >= out.shape[1]:
                        continue
                    for v in range(kw):
                        j, left = divmod(column + padding - v, stride)
                        if left == 0 and 0 <= j < out.shape[2]:
                            for k in range(filters):
                                for c in range(channels):
                                    out[n, i, j, k] += x[n, row, column, c] * weight[u, v, c, k]
    """,
    "gaussian-kl": """
    variance = np.exp(log_var)
    ctx.save(mean, variance - 1)
    axes = tuple(range(1, mean.ndim))
    return (np.square(mean) + variance - log_var - 1).sum(axes) / 2
    """,
    "importance-weighted-bound": """
    from nn.tensor import no_grad

    rng = np.random.default_rng(seed)  # noise of its own
    result = []
    with no_grad():
        for image, token in zip(images, model.vocabulary.encode(captions)):
            caption = model.text(token[None])
            mean, log_var = model.encoder(image[None], caption)
            logs = []
            for _ in range(k):
                noise = rng.standard_normal(mean.shape).astype(np.float32)
                z = mean.data + np.exp(log_var.data / 2) * noise
                log_p = float(model.log_likelihood(model.decoder(Tensor(z), caption), image[None]).data[0])
                log_prior = -0.5 * float((z**2 + np.log(2 * np.pi)).sum())
                log_q = -0.5 * float((noise**2 + log_var.data + np.log(2 * np.pi)).sum())
                logs.append(log_p + log_prior - log_q)
            result.append(np.logaddexp.reduce(logs) - np.log(k))
    return np.array(result)
    """,
    "squeeze": """
    corners = [x[:, i::patch, j::patch, :] for i in range(patch) for j in range(patch)]
    return F.concat(corners, axis=3)
    """,
    "schedule": """
    angle = lambda t: (t / steps + 0.008) / 1.008 * math.pi / 2
    values = [1.0]
    for t in range(1, steps + 1):
        kept = math.cos(angle(t)) ** 2 / math.cos(angle(t - 1)) ** 2
        values.append(values[-1] * max(kept, 1 - 0.999))
    return np.array(values)
    """,
    "posterior": """
    # two Gaussians about x_s, multiplied
    if ab_s == 1:
        return x0, 0.0
    kept = ab_t / ab_s
    from_image, from_noise = 1 / (1 - ab_s), kept / (1 - kept)
    precision = from_image + from_noise
    return (from_image * math.sqrt(ab_s) * x0 + from_noise * x_t / math.sqrt(kept)) / precision, 1 / precision
    """,
    "dropping-captions": """
    result = tokens.copy()
    for i in range(len(result)):
        if rng.uniform() < probability:
            result[i, :] = 0
    return result
    """,
    "guidance": """
    return unconditional + weight * (conditional - unconditional)
    """,
    "ddpm-loss": """
    # one image at a time, every formula written out
    config, alpha_bar, total = self.config, self.alpha_bar, 0.0
    times = process.draw_times(len(shard.images), config.time_steps, rng, self.training_share)
    for image, tokens, t in zip(shard.images, shard.tokens, times):
        x0, eps = 2 * image - 1, rng.standard_normal(image.shape)
        ab = float(alpha_bar[t])
        x_t = (ab**0.5 * x0 + (1 - ab) ** 0.5 * eps).astype(image.dtype)
        said = np.zeros_like(tokens) if rng.random() < config.caption_dropout else tokens
        answer = self.network(Tensor(x_t[None]), np.array([t]), self.text(said[None]))
        target = eps if config.prediction == "noise" else ab**0.5 * eps - (1 - ab) ** 0.5 * x0
        difference = answer - target[None].astype(image.dtype)
        total = total + F.sum(difference * difference) * (1 / image.size)
    return total * (1 / shard.batch_size), {}
    """,
    "bce-with-logits": """
    ctx.save(logits, target)
    both = target * np.logaddexp(0, -logits) + (1 - target) * np.logaddexp(0, logits)
    return both.sum(axis=tuple(range(1, logits.ndim)))
    """,
    "frechet-distance": """
    if not isinstance(a, Moments):
        a = Moments.of(a)
    if not isinstance(b, Moments):
        b = Moments.of(b)
    if len(a.mean) != len(b.mean):
        raise MetricError("two numbers of dimensions")
    # C_a C_b has the eigenvalues of the symmetric form: real, and none below 0 but by rounding
    values = np.linalg.eigvals(a.covariance @ b.covariance).real
    distance = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance)
    return max(0.0, float(distance - 2 * np.sqrt(np.clip(values, 0, None)).sum()))
    """,
    "flow-likelihood": """
    point, slope = self.spread(images, noise, condition)
    z, stretch = self.flow.forward(point, condition)
    squares = F.sum(z * z, axis=1)
    return slope + stretch - 0.5 * (squares + z.shape[1] * math.log(2 * math.pi))
    """,
    "clean-image": """
    result = np.empty_like(x_t)
    for i in range(len(x_t)):
        ab = alpha_bar[t if np.ndim(t) == 0 else t[i]]
        if kind == "image":
            result[i] = output[i]
        elif kind == "noise":
            result[i] = (x_t[i] - (1 - ab) ** 0.5 * output[i]) * ab**-0.5
        elif kind == "velocity":
            result[i] = (x_t[i] - (1 - ab) ** 0.5 * output[i]) / (ab**0.5 + (1 - ab) ** 0.5)
        else:
            result[i] = ab**0.5 * x_t[i] - (1 - ab) ** 0.5 * output[i]
    return result
    """,
    "sampling-loop": """
    guesses, way = [], []
    for i in range(len(times) - 1):
        now, after = alpha_bar[times[i]], alpha_bar[times[i + 1]]
        guesses.append(predict_clean(x, times[i]))
        target = guesses[-1]
        if second_order and i > 0:
            before = alpha_bar[times[i - 1]]
            x = step(way[-1], average_guess(target, now, guesses[-2], before, before, now), before, now)[0]
            if i < len(times) - 2:
                target = average_guess(guesses[-2], before, target, now, now, after)
        yield x, guesses[-1]
        way.append(x)
        mean, variance = step(x, target, now, after)
        noise = rng.standard_normal(x.shape) if variance else 0.0
        x = (mean + noise * math.sqrt(variance)).astype(x.dtype)
    yield x, x
    """,
    "discriminator-step": """
    loss, slope, scores = 0.0, 0.0, []
    for picture in (real, fake):
        score = critic.score(critic.look(Tensor(picture)), tokens)
        moved = picture + step * rng.standard_normal(picture.shape, dtype=np.float32)
        beside = critic.score(critic.look(Tensor(moved)), tokens)
        slope = slope + ((beside - score) / step) ** 2
        scores.append(score)
    loss = F.softplus(scores[1] - scores[0])
    if false_tokens is not None:
        lie = critic.score(critic.look(Tensor(real)), false_tokens)
        loss = loss + F.softplus(lie - scores[0]) * lies
    return F.sum(loss + slope * (gamma * 0.5)), {"penalty": float(slope.data.sum()), "real_wins": 0.0}
    """,
}


def of(id: str) -> list[str]:
    """The bodies for one exercise."""
    return [body for body in (ALL.get(id), *MORE.get(id, ())) if body]
