"""Mistakes of the kinds that mistakes_kinds.py names, in the engine: exercise -> (about, cause, old, new)."""

KINDS_OF_ENGINE = {
    "he-initialisation": [
        ("uniform", "normal numbers", "normal(shape, rng)", "((rng.random(shape) - 0.5) * 12**0.5).astype(np.float32)"),
        (
            "float64",
            "float32",
            "normal(shape, rng) * np.float32(math.sqrt(2 / fan_in))",
            "rng.standard_normal(shape) * math.sqrt(2 / fan_in)",
        ),
    ],
    "log-softmax": [
        ("saves x", "ctx.save(y)", "ctx.save(y)", "ctx.save(x)"),
        ("no axis", "ctx.axis", "ctx.axis = axis", "pass"),
        (
            "epsilon inside the logarithm",
            "inside the logarithm",
            ".sum(axis=axis, keepdims=True))",
            ".sum(axis=axis, keepdims=True) + 1e-3)",
        ),
        ("float64", "float64", "return y", "return np.zeros(x.shape) + y"),
    ],
    "cross-entropy": [
        (
            "as many classes as the batch has",
            "",
            "",
            "k = int(labels.max()) + 1\nrows = np.arange(len(logits))\n"
            "shifted = logits - logits.max(axis=1, keepdims=True)\np = np.exp(shifted)\n"
            "ctx.save(p / p.sum(axis=1, keepdims=True), rows, labels)\n"
            "return np.log(p[:, :k].sum(axis=1)) - shifted[rows, labels]",
        ),
        ("saves logarithms", "", "ctx.save(p, rows, labels)", "ctx.save(np.log(p), rows, labels)"),
        ("a list of losses", "", "return np.log(total) - chosen", "return list(np.log(total) - chosen)"),
        ("epsilon inside the logarithm", "inside the logarithm", "np.log(total)", "np.log(total + 1e-3)"),
    ],
    "attention": [
        (
            "saves probabilities with the totals",
            "backward divides e by total",
            "ctx.save(q, k, v, e, total, y)",
            "ctx.save(q, k, v, e / total, total, y)",
        ),
        ("float64 by a root of NumPy", "float64", "q * max(q.shape[3], 1) ** -0.5", "q / np.sqrt(q.shape[3])"),
    ],
    "topological-order": [
        (
            "backwards from the end, each at its first sight",
            "before all of its inputs",
            "",
            "order, seen, stack = [], set(), [node]\nwhile stack:\n    current = stack.pop()\n    if current in seen:\n"
            "        continue\n    seen.add(current)\n    order.append(current)\n    stack.extend(_parents(current))\n"
            "return order[::-1]",
        ),
    ],
    "backward": [
        ("the root is never freed", "node.free", "node.free()", "if node is not self.node:\n        node.free()"),
        (
            "a cotangent that is reshaped",
            "",
            "np.asarray(grad, dtype=self.dtype)",
            "np.asarray(grad, dtype=self.dtype).reshape(self.shape)",
        ),
        (
            "gradients in float64",
            "",
            "np.asarray(grad, dtype=self.dtype)",
            "np.asarray(grad, float)\nself.data = self.data.astype(float)",
        ),
    ],
    "unbroadcast": [("float64", "float64", ".reshape(shape)", ".reshape(shape) + np.zeros(shape)")],
    "matmul-backward": [
        ("the gradients exchanged", "exchanged", "return da, db", "return db, da"),
        ("float64", "float64", "return da, db", "return da, None if db is None else db.astype(float)"),
    ],
    "relu-backward": [
        (
            "float64",
            "float64",
            "return _entrywise(kernels.relu_backward, x, grad)",
            "return np.where(x > 0, grad, np.zeros(x.shape))",
        )
    ],
    "momentum": [
        (
            "the caller's gradient kept",
            "the caller's",
            "",
            "if not self.velocity.any() and scale == 1:\n    self.velocity = gradient\nelse:\n"
            "    self.velocity = self.momentum * self.velocity + scale * gradient\n"
            "self.values -= rate * self.velocity",
        ),
    ],
    "adam": [("the counter replaced", "it is shared", "self.count += 1", "self.count = self.count + 1")],
    "ema": [("the counter replaced", "it is shared", "self.count += 1", "self.count = self.count + 1")],
    "output-size": [
        (
            "floats",
            "// or int()",
            "(size + 2 * padding - k) // stride + 1",
            "float((size + 2 * padding - k) // stride + 1)",
        )
    ],
    "im2col": [
        (
            "float64",
            "float64",
            "return windows.transpose(0, 1, 2, 4, 5, 3)",
            "return windows.transpose(0, 1, 2, 4, 5, 3).astype(float)",
        )
    ],
    "conv2d-backward": [
        (
            "dx and dw in float64",
            "float64",
            "return dx, dw, db",
            "return dx if dx is None else dx.astype(float), dw, db",
        )
    ],
    "transposed-convolution": [
        ("float64", "float64", "return y if b is None else y + b", "return (y if b is None else y + b).astype(float)")
    ],
    "group-norm-backward": [
        (
            "gamma after the means",
            "gamma",
            "",
            "grouped = x.reshape(x.shape[0], x.shape[1], groups, -1)\n"
            "sigma = np.sqrt(grouped.var(axis=(1, 3), keepdims=True) + eps)\n"
            "xhat = (grouped - grouped.mean(axis=(1, 3), keepdims=True)) / sigma\n"
            "g = grad.reshape(grouped.shape)\n"
            "mean, mean_x = g.mean(axis=(1, 3), keepdims=True), (g * xhat).mean(axis=(1, 3), keepdims=True)\n"
            "dx = (g - mean - xhat * mean_x) / sigma\n"
            "xhat = xhat.reshape(x.shape)\n"
            "return dx.reshape(x.shape) * gamma, (grad * xhat).sum(axis=(0, 1)), grad.sum(axis=(0, 1))",
        ),
        ("n - 1", "n - 1", ".var(axis=(1, 3), keepdims=True)", ".var(axis=(1, 3), keepdims=True, ddof=1)"),
    ],
    "group-norm-forward": [
        (
            "mean over the positions alone",
            "",
            "grouped.mean(axis=(1, 3), keepdims=True)",
            "grouped.mean(axis=1, keepdims=True)",
        ),
        ("float64", "float64", "beta", "beta + np.zeros(x.shape)"),
    ],
    "gaussian-kl": [
        (
            "float64",
            "float64",
            "0.5 * _by_example(terms).sum(axis=1)",
            "np.float64(0.5) * _by_example(terms).sum(axis=1)",
        )
    ],
    "polar": [
        (
            "float64",
            "float64",
            "return x @ product if tall else product @ x",
            "return (x @ product if tall else product @ x).astype(float)",
        )
    ],
    "parameters": [
        (
            "a generator",
            "list",
            "return [(n, p) for n, p in self._walk(Parameter) if not (id(p) in seen or seen.add(id(p)))]",
            "return ((n, p) for n, p in self._walk(Parameter) if not (id(p) in seen or seen.add(id(p))))",
        )
    ],
}
