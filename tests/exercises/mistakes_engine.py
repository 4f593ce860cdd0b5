"""What people get wrong in autograd, networks, convolution and kernels: exercise -> (about, cause, old, new)."""

ENGINE = {
    "numerical-gradient": [
        (
            "the direction is left out", "the direction is ignored",
            "f(x + h * direction) - f(x - h * direction)",
            "f(x + h) - f(x - h)",
        ),
        ("divided by h, not by 2 h", "2 times", "/ (2 * h)", "/ h"),
        (
            "forwards and backwards exchanged", "sign is flipped",
            "f(x + h * direction) - f(x - h * direction)",
            "f(x - h * direction) - f(x + h * direction)",
        ),
    ],
    "unbroadcast": [
        ("stretched axes are not summed", "to be summed away", "+ stretched).reshape(shape)", ")"),
        (
            "added axes are not summed", "summed",
            "axis=tuple(range(added)) + stretched).reshape(shape)",
            "axis=stretched, keepdims=True)",
        ),
        ("the mean, not the sum", "1/", "grad.sum(", "grad.mean("),
    ],
    "mul-backward": [
        (
            "the factors are exchanged", "the input a",
            "grad * b if ctx.needs[0] else None, grad * a if ctx.needs[1] else None",
            "a, b",
        ),
        (
            "the incoming gradient is ignored", "gradient is ignored",
            "grad * b if ctx.needs[0]",
            "b * np.ones_like(grad) if ctx.needs[0]",
        ),
        ("a sign", "sign is flipped", "grad * b if", "-grad * b if"),
        (
            "what is not needed is multiplied all the same", "only where one factor is a constant",
            "grad * b if ctx.needs[0] else None, grad * a if ctx.needs[1] else None",
            "grad * b, grad * a",
        ),
    ],
    "exp-backward": [
        ("the incoming gradient is ignored", "gradient is ignored", "grad * y", "y"),
        ("the gradient is changed in place", "changed in place", "return grad * y", "grad *= y\nreturn grad"),
    ],
    "sum-backward": [
        ("the incoming gradient is ignored", "gradient is ignored", "grad.reshape(ctx.kept_shape)", "1"),
        (
            "shared out evenly", "1/",
            "dx[...] = grad.reshape(ctx.kept_shape)",
            "dx[...] = grad.reshape(ctx.kept_shape) * grad.size / dx.size",
        ),
        ("without the kept axes", "only where an axis other than the first", "grad.reshape(ctx.kept_shape)", "grad"),
    ],
    "matmul-backward": [
        (
            "the second gradient is transposed", "transposed",
            "return da, db",
            "return da, None if db is None else db.swapaxes(-1, -2)",
        ),
        ("all axes are transposed", "only where b is a stack", "b.swapaxes(-1, -2)", "b.T"),
    ],
    "topological-order": [
        ("in reverse", "in reverse", "return order", "return order[::-1]"),
        (
            "by recursion", "recursion",
            "",
            "order, seen = [], set()\n"
            "def visit(current):\n"
            "    if current not in seen:\n"
            "        seen.add(current)\n"
            "        for parent in _parents(current):\n"
            "            visit(parent)\n"
            "        order.append(current)\n"
            "visit(node)\n"
            "return order",
        ),
        (
            "breadth first", "before all of its inputs",
            "",
            "order, seen, todo = [], {node}, [node]\n"
            "while todo:\n"
            "    current = todo.pop(0)\n"
            "    order.append(current)\n"
            "    for parent in _parents(current):\n"
            "        if parent not in seen:\n"
            "            seen.add(parent)\n"
            "            todo.append(parent)\n"
            "return order[::-1]",
        ),
        ("seen is never looked at", "not marked as seen", "elif current not in seen:", "else:"),
    ],
    "backward": [
        (
            "the second gradient replaces the first", "only one of two uses",
            "_add_to_leaf(tensor, gradient)",
            "tensor.grad = gradient.copy()",
        ),
        (
            "no unbroadcast", "only where an axis was broadcast",
            "gradient = unbroadcast(gradient, tensor.data.shape)",
            "pass",
        ),
        (
            "the incoming gradient is ignored", "gradient is ignored",
            "self.node.receive(self.output_index, grad)",
            "self.node.receive(self.output_index, np.ones_like(grad))",
        ),
        ("the graph is not freed", "node.free", "node.free()", "pass"),
    ],
    "parameters": [
        (
            "sorted by name", "another order",
            "self._walk(Parameter)",
            "sorted(self._walk(Parameter), key=lambda pair: pair[0])",
        ),
        ("shared ones twice", "appears twice", "if not (id(p) in seen or seen.add(id(p)))", ""),
    ],
    "he-initialisation": [
        ("the factor 2 is missing", "factor 2 is missing", "2 / fan_in", "1 / fan_in"),
        ("fan_out", "fan_out", "fan_in, _ = fans", "_, fan_in = fans"),
        ("the variance, not the deviation", "the variance is taken", "math.sqrt(2 / fan_in)", "(2 / fan_in)"),
        (
            "a generator of its own", "do not come from rng",
            "normal(shape, rng)",
            "normal(shape, np.random.default_rng())",
        ),
    ],
    "relu-backward": [
        (
            "relu of the gradient", "relu of the gradient",
            "_entrywise(kernels.relu_backward, x, grad)",
            "np.maximum(grad, 0)",
        ),
        (
            "the gradient passes at 0", "where x is exactly 0",
            "_entrywise(kernels.relu_backward, x, grad)",
            "grad * (x >= 0)",
        ),
        (
            "the incoming gradient is ignored", "gradient is ignored",
            "_entrywise(kernels.relu_backward, x, grad)",
            "(x > 0) * 1.0",
        ),
    ],
    "log-softmax": [
        (
            "the largest is not taken away", "only at extreme values",
            "shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)",
            "shifted = x",
        ),
        (
            "along another axis", "along axis",
            "",
            "y = x - np.log(np.exp(x).sum(axis=0, keepdims=True))\nctx.axis = axis\nctx.save(y)\nreturn y",
        ),
        ("the softmax, not its logarithm", "softmax, without the logarithm", "return y", "return np.exp(y)"),
    ],
    "log-softmax-backward": [
        (
            "returns zeros", "all zeros",
            "return grad - np.exp(y) * grad.sum(axis=ctx.axis, keepdims=True)",
            "return np.zeros_like(y)",
        ),
        (
            "the diagonal of the Jacobian alone", "only the diagonal",
            "np.exp(y) * grad.sum(axis=ctx.axis, keepdims=True)",
            "np.exp(y) * grad",
        ),
        ("the exp is forgotten", "softmax is forgotten", "np.exp(y) * grad.sum", "y * grad.sum"),
    ],
    "cross-entropy": [
        ("the sign", "sign is flipped", "return np.log(total) - chosen", "return chosen - np.log(total)"),
        (
            "one number for all", "the caller's",
            "return np.log(total) - chosen",
            "return (np.log(total) - chosen).mean()",
        ),
        (
            "the largest is not taken away", "only at extreme values",
            "logits - logits.max(axis=1, keepdims=True, initial=-np.inf)",
            "logits.copy()",
        ),
        (
            "the logits are changed in place", "changed in place",
            "shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)",
            "shifted = logits\nshifted -= logits.max(axis=1, keepdims=True, initial=-np.inf)",
        ),
    ],
    "momentum": [
        ("scale is not used", "`scale` is not used", "scale * gradient", "gradient"),
        (
            "damped", "not to be multiplied by 1 - momentum",
            "scale * gradient",
            "(1 - self.momentum) * scale * gradient",
        ),
        (
            "another array", "write into it",
            "self.values -= rate * self.velocity",
            "self.values = self.values - rate * self.velocity",
        ),
    ],
    "adam": [
        (
            "no correction for the start", "not corrected",
            "self.m / (1 - b1**t), self.v / (1 - b2**t)",
            "self.m, self.v",
        ),
        ("t starts at 0", "t is off by one", "t = int(self.count)", "t = int(self.count) + 1"),
        (
            "epsilon under the root", "epsilon belongs outside",
            "np.sqrt(v_hat) + self.epsilon",
            "np.sqrt(v_hat + self.epsilon)",
        ),
        ("upwards", "sign of the step", "self.values -=", "self.values +="),
    ],
    "polar": [
        (
            "turned round", "transposed",
            "return x @ product if tall else product @ x",
            "return (x @ product).T if tall else product @ x",
        ),
        (
            "only normalised", "only the norm is divided out",
            "return x @ product if tall else product @ x",
            "return x * scalar(square**-0.5)",
        ),
        ("not normalised", "not divided by its norm", "square = np.sqrt(", "square = 1 / largest**2 + 0 * np.sqrt("),
        ("one round", "after 1 of 4 rounds", "in enumerate(POLYNOMIALS, 1)", "in enumerate(POLYNOMIALS[:1], 1)"),
        ("upwards", "sign is flipped", "* scalar(1 / largest)", "* scalar(-1 / largest)"),
    ],
    "ema": [
        (
            "the two weights exchanged", "are exchanged",
            "d * self.average + (1 - d) * self.values",
            "(1 - d) * self.average + d * self.values",
        ),
        ("no warm-up", "no warm-up", "self.current_decay()", "self.decay"),
    ],
    "output-size": [
        ("one too few", "one too few", "// stride + 1", "// stride"),
        ("padding on one side only", "on both sides", "2 * padding", "padding"),
        ("stride is left out", "the stride is left out", "// stride + 1", "+ 1"),
    ],
    "im2col": [
        (
            "padding on one side", "only with padding",
            "(padding, padding), (padding, padding)",
            "(2 * padding, 0), (2 * padding, 0)",
        ),
        ("stride is left out", "only with stride", "[:, ::stride, ::stride]", ""),
    ],
    "conv2d-weight-gradient": [
        ("the incoming gradient is ignored", "gradient is ignored", "padding), grad,", "padding), grad * 0 + 1,"),
    ],
    "conv2d-input-gradient": [
        ("the kernel is flipped", "flipped", "tensordot(grad, weight,", "tensordot(grad, weight[::-1, ::-1],"),
    ],
    "conv2d-forward": [
        ("the bias is left out", "bias is left out", " + bias", ""),
        ("the kernel is flipped", "flipped", "weight, axes=3", "weight[::-1, ::-1], axes=3"),
    ],
    "conv2d-backward": [
        ("the bias gradient is a mean", "factor", "convolution.bias_gradient(grad)", "grad.mean(axis=(0, 1, 2))"),
        (
            "stride is left out", "only with stride",
            "convolution.weight_gradient(x, grad, w.shape[:2], ctx.stride",
            "convolution.weight_gradient(x, grad, w.shape[:2], 1",
        ),
        (
            "the incoming gradient is ignored", "gradient is ignored",
            "convolution.input_gradient(grad,",
            "convolution.input_gradient(grad * 0 + 1,",
        ),
    ],
    "transposed-convolution": [
        ("the bias is left out", "bias is left out", "return y if b is None else y + b", "return y"),
        ("output_padding is left out", "only with output_padding", "+ k + output_padding", "+ k"),
    ],
    "group-norm-forward": [
        (
            "eps outside of the root", "eps belongs under the root",
            "np.sqrt(grouped.var(axis=(1, 3), keepdims=True) + eps)",
            "np.sqrt(grouped.var(axis=(1, 3), keepdims=True)) + eps",
        ),
        (
            "divided by n - 1", "divided by n - 1",
            "grouped.var(axis=(1, 3), keepdims=True)",
            "grouped.var(axis=(1, 3), keepdims=True, ddof=1)",
        ),
        ("gamma and beta are not used", "gamma and beta are not used", " * gamma + beta", ""),
    ],
    "group-norm-backward": [
        ("mean and variance held fixed", "held fixed", "(g - mean_g - xhat * mean_gx)", "g"),
        ("the variance held fixed", "variance is held fixed", "(g - mean_g - xhat * mean_gx)", "(g - mean_g)"),
        ("gamma is forgotten", "gamma is missing", "grad * gamma", "grad"),
    ],
    "attention": [
        ("the scores are not scaled", "not divided by sqrt(d)", "q * max(q.shape[3], 1) ** -0.5", "q"),
        ("divided by d", "divided by d", "** -0.5", "** -1.0"),
        (
            "the largest is not taken away", "only at extreme values",
            "e -= e.max(axis=3, keepdims=True, initial=-np.inf)", "pass",
        ),
    ],
    "attention-backward": [
        (
            "the row sums are forgotten", "minus the row sum",
            'ds -= np.einsum("nhqd,nhqd->nhq", grad, y)[..., None]', "pass",
        ),
        ("the scale is forgotten", "1 / sqrt(d) is missing", "dq *= scale", "pass"),
        ("not divided by the totals", "divide by total", "grad = grad / total if k.shape[2] else grad", "pass"),
    ],
    "im2col-kernel": [
        (
            "the border is not written", "NaN",
            "out[n, i, j, u, v, c] = x[n, row, column, c] if inside else 0",
            "if inside:\n                            out[n, i, j, u, v, c] = x[n, row, column, c]",
        ),
    ],
    "convolution-kernel": [
        ("out is not set to zero", "NaN", "out[n, i, j] = 0", "pass"),
        (
            "the padding is forgotten", "only with padding",
            "i * stride + u - padding, j * stride + v - padding",
            "i * stride + u, j * stride + v",
        ),
    ],
    "norm-silu-kernel": [
        ("SiLU is left out", "SiLU is left out", "h / (1 + math.exp(-h))", "h"),
    ],
}
