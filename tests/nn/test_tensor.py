"""The engine: graph, backward, accumulation, broadcasting, and what it says when used wrongly."""
import operator
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import Function, Tensor, no_grad
from nn import functional as F
from nn.tensor import NonFiniteError, Parameter, finite_checks, gradients_into, topological_order, unbroadcast


def leaf(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


def test_a_chain_of_ten_thousand_functions():
    """Catches a recursive topological sort, which overflows Python's stack."""
    x = leaf(3)
    y = x
    for _ in range(10_000):
        y = y + 1.0
    F.sum(y).backward()
    np.testing.assert_array_equal(x.grad, np.ones(3))


def test_a_ladder_of_diamonds_is_walked_once():
    """y = x + x, sixty times over: 2^60 paths.  Catches a backward that follows paths instead of visiting nodes."""
    x = leaf(2)
    y = x
    for _ in range(60):
        y = y + y
    F.sum(y).backward()
    np.testing.assert_array_equal(x.grad, np.full(2, 2.0**60))


def test_a_node_waits_for_everything_that_used_it():
    """z = a * b with a = 2x and b = a + x.  Catches an order in which a passes its gradient on before b has added."""
    x = leaf(4)
    a = x * 2.0
    b = a + x
    F.sum(a * b).backward()  # 2x * 3x
    np.testing.assert_allclose(x.grad, 12 * x.data)


def test_order_puts_inputs_first():
    """Catches a depth-first order that forgets nodes reached twice."""
    x = leaf(2)
    a = x * 2.0
    b = a * a
    c = b + a
    order = topological_order(c.node)
    assert [type(n).__name__ for n in order] == ["Mul", "Mul", "Add"] and order[0] is a.node


def test_gradients_accumulate_over_calls():
    """Catches a backward that overwrites leaf.grad."""
    x = leaf(3)
    F.sum(x * 2.0).backward()
    F.sum(x * 3.0).backward()
    np.testing.assert_allclose(x.grad, np.full(3, 5.0))


def test_gradients_never_alias():
    """x + y hands one array to both.  Catches leaves sharing it, so that adding to one changes the other."""
    x, y = leaf(3, seed=1), leaf(3, seed=2)
    seed = np.ones(3)
    (x + y).backward(seed)
    assert not np.shares_memory(x.grad, y.grad) and not np.shares_memory(x.grad, seed)
    (x * 5.0).backward(seed)
    np.testing.assert_array_equal(y.grad, np.ones(3))
    np.testing.assert_array_equal(seed, np.ones(3))


def test_an_intermediate_sum_does_not_write_into_what_an_op_returned():
    """Three uses of a = x * 1: the second and third gradients are added.  Catches adding into the first one's array."""
    x, seed = leaf(3), np.ones(3)
    a = x * 1.0
    b, c, d = a + 0.0, a + 0.0, a + 0.0
    F.concat([b, c, d], axis=0).backward(np.ones(9))
    (a2 := x * 1.0).backward(seed)
    assert a2.node is not None
    np.testing.assert_array_equal(x.grad, np.full(3, 4.0))
    np.testing.assert_array_equal(seed, np.ones(3))


def test_a_single_number_used_four_times():
    """s = x_1 + x_2 + x_3 has no axes.  Catches adding in place to a NumPy scalar, where a sum is a new object."""
    x = leaf(3)
    s = x.sum()
    (s * 1.0 + s * 2.0 + s * 3.0 + s * 4.0).backward()
    np.testing.assert_array_equal(x.grad, np.full(3, 10.0))


@given(st.lists(st.integers(1, 3), max_size=4), st.data())
def test_unbroadcast_is_the_adjoint_of_broadcasting(shape, data):
    """<broadcast(x), g> = <x, unbroadcast(g)>.  Catches an axis not summed, or kept when it must go."""
    small = [data.draw(st.sampled_from([1, n])) for n in shape][data.draw(st.integers(0, len(shape))) :]
    rng = np.random.default_rng(len(shape))
    x, g = rng.standard_normal(small), rng.standard_normal(shape)
    back = unbroadcast(g, tuple(small))
    assert back.shape == tuple(small)
    np.testing.assert_allclose(np.sum(np.broadcast_to(x, shape) * g), np.sum(x * back), atol=1e-12)


@pytest.mark.parametrize("given", [(3, 2), (6,), (2, 2), ()])
def test_a_gradient_of_another_shape_is_refused(given):
    """Catches: a transposed gradient reshaped in silence to its input's shape."""

    class Wrong(Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, grad):
            return grad, np.ones(given)

    y = Wrong.apply(leaf(2, 3), leaf(2, 3))
    with pytest.raises(ValueError, match=r"Wrong.backward returned a gradient of shape .* for input 1 \(counted"):
        y.backward(np.ones((2, 3)))


def test_no_grad_is_per_thread():
    """Catches a global switch: another thread would stop recording too."""
    x, seen = leaf(2), []
    inside, done = threading.Event(), threading.Event()

    def elsewhere():
        inside.wait(10)
        seen.append((x * 2.0).requires_grad)
        done.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    with no_grad():
        inside.set()
        done.wait(10)
        assert not (x * 2.0).requires_grad
    thread.join()
    assert seen == [True] and (x * 2.0).requires_grad


def test_no_grad_ends_with_an_exception():
    """Catches a switch that stays off after an error inside the block."""
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert (leaf(1) * 2.0).requires_grad


def test_a_sink_receives_only_its_own_leaves():
    """Catches gradients written to leaf.grad beside the sink, or work done for leaves outside it."""
    x, y = Parameter(np.ones(3)), Parameter(np.full(3, 2.0))
    sink = {id(x): np.full(3, 10.0)}
    with gradients_into(sink):
        product = x * y
        assert product.node.needs == [True, False]
        F.sum(product).backward()
    np.testing.assert_array_equal(sink[id(x)], np.full(3, 12.0))
    assert x.grad is None and y.grad is None


def test_memory_is_flat_and_the_graph_is_freed():
    """Catches nodes that keep each other alive after backward."""
    x = leaf(50_000)

    def step():
        y = x
        for _ in range(10):
            y = F.exp(y * 0.1)
        F.sum(y).backward()
        return y

    step()
    tracemalloc.start()
    for _ in range(20):
        last = step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last.node.inputs is None
    assert peak < 40 * x.data.nbytes  # one step holds about 25 arrays; twenty would hold 500


class Twice(Function):
    """Returns (2x, 3x); used for functions with several outputs."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x, 3 * x

    @staticmethod
    def backward(ctx, grad2, grad3):
        return 2 * grad2 + 3 * grad3


def test_several_outputs_one_unused():
    """Catches an unused output whose missing gradient is not taken as zero, and outputs mixed up."""
    x = leaf(3)
    two, three = Twice.apply(x)
    F.sum(three).backward()
    np.testing.assert_array_equal(x.grad, np.full(3, 3.0))
    x.grad = None
    two, three = Twice.apply(x)
    F.sum(two + three * 10.0).backward()
    np.testing.assert_array_equal(x.grad, np.full(3, 32.0))


def test_python_numbers_keep_float32():
    """Catches NumPy scalars that turn a float32 computation into float64."""
    x = leaf(3, dtype=np.float32)
    for y in (x * 2, x * 2.5, x * np.float64(2.5), np.sqrt(2.0) * x, 1 / (x * x + 1.0), np.ones(3, np.float32) * x):
        assert isinstance(y, Tensor) and y.dtype == np.float32


def test_a_loss_is_a_number_and_a_tensor_an_array():
    """Catches: object arrays; a number that only .item() gets at; a comparison that fails or records a graph."""
    x, loss = leaf(2, 3, dtype=np.float32), F.sum(leaf(3) * 2.0)
    assert float(loss) == loss.item() and int(loss) == int(loss.item()) and f"{loss:.3f}" == f"{loss.item():.3f}"
    assert bool(loss) and not F.sum(loss * 0) and f"{x}" == repr(x)
    assert np.array([loss, loss]).dtype == np.float64 and np.array([loss, loss]).tolist() == [loss.item()] * 2
    assert np.asarray(x) is x.data and np.asarray(x, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x, copy=True), x.data)
    for op in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        for other in (0.5, x.data[0, 0], x.data[0], np.float64(0.5), Tensor(x.data[0])):
            plain = other.data if isinstance(other, Tensor) else other
            np.testing.assert_array_equal(op(x, other), op(x.data, plain))
            np.testing.assert_array_equal(op(other, x), op(plain, x.data))
    assert max([loss, loss + 1]) > loss and x in {x: 1}
    with pytest.raises(TypeError, match="unsized"):
        list(loss)  # not an empty list


@pytest.mark.parametrize("use", [float, int, bool, lambda x: f"{x:.3f}", lambda x: x.item()])
@pytest.mark.parametrize("shape", [(2, 3), (0,)], ids=str)
def test_several_numbers_are_not_one(use, shape):
    """Catches: NumPy's own message, which knows neither the shape nor what to do."""
    with pytest.raises(ValueError, match=r"shape \(.*reduce it.*\.data"):
        use(Tensor(np.ones(shape)))


def test_a_tensor_is_walked_along_its_first_axis():
    x = Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    rows = list(x)
    assert [row.data.tolist() for row in rows] == [[0, 1], [2, 3], [4, 5]] and rows[1].requires_grad


def test_what_is_detached_is_the_same_array_and_passes_no_gradient():
    x = Tensor([1.0, -2.0], requires_grad=True)
    cut = (2 * x).detach()
    np.testing.assert_array_equal(cut.data, [2.0, -4.0])
    assert not cut.requires_grad
    F.sum(cut * x).backward()
    np.testing.assert_array_equal(x.grad, cut.data)


@pytest.mark.parametrize("wrong", ["a", 1j, None, [dict], np.array([1j]), np.longdouble(1)], ids=repr)
def test_what_is_no_real_number_is_refused(wrong):
    with pytest.raises(TypeError, match="Tensor holds numbers|float32 or float64|unsupported"):
        F.silu(Tensor(wrong))


@pytest.mark.parametrize("function", [np.sum, np.mean, lambda x: np.stack([x, x]), lambda x: np.concatenate([x, x]),
                                      np.isnan, np.sqrt, np.add.reduce, lambda x: np.ones(3).__imul__(x)])  # fmt: skip
def test_functions_of_numpy_do_not_cut_a_graph_in_silence(function):
    """Catches: np.stack of tensors as an array; "sum() got an unexpected keyword argument 'out'"."""
    with pytest.raises(TypeError, match=r"knows no Tensors.*\.data"):
        function(leaf(3))


def test_a_list_of_tensors_is_not_cut_from_its_graph():
    """Catches: Tensor([loss, loss]), which now that tensors are arrays would forget the graph in silence."""
    loss = F.sum(leaf(3))
    for cut in (lambda: Tensor([loss, loss]), lambda: leaf(2) + [loss, loss], lambda: Tensor([[1.0], (loss,)])):
        with pytest.raises(TypeError, match=r"F\.stack"):
            cut()


def test_repr_says_what_it_is():
    x = leaf(2, dtype=np.float32)
    assert "shape=(2,)" in repr(x) and "float32" in repr(x) and "requires_grad" in repr(x)
    assert "from Mul" in repr(x * 2.0)
    assert "..." in repr(leaf(1000)) and "\n" not in repr(leaf(100, 100))


def test_finite_checks_name_the_op():
    """Catches a report that blames a later op than the one where the NaN began."""
    x = Tensor(np.array([-1.0, 1.0]), requires_grad=True)
    with np.errstate(invalid="ignore"), finite_checks(), pytest.raises(NonFiniteError, match="forward pass of Log"):
        F.exp(F.log(x))
    zero = Tensor(np.zeros(2), requires_grad=True)
    with np.errstate(divide="ignore"), finite_checks(), pytest.raises(NonFiniteError, match="backward pass of Pow"):
        F.sum(zero**0.5).backward()


def test_backward_needs_a_gradient_for_more_than_one_number():
    with pytest.raises(ValueError, match=r"single number.*\(3,\)"):
        (leaf(3) * 2.0).backward()


def test_backward_gradient_of_another_shape():
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(3,\)"):
        (leaf(3) * 2.0).backward(np.ones((1, 3)))


def test_second_backward():
    loss = F.sum(leaf(3) * 2.0)
    loss.backward()
    with pytest.raises(RuntimeError, match="freed"):
        loss.backward()


def test_second_backward_through_a_shared_part():
    """Catches an error only at the top: here only the lower part of the graph has been freed."""
    shared = leaf(3) * 2.0
    F.sum(shared).backward()
    with pytest.raises(RuntimeError, match="freed"):
        F.sum(shared * 3.0).backward()


def test_backward_of_a_constant():
    with pytest.raises(RuntimeError, match="requires_grad"):
        Tensor([1.0]).backward()


def test_shapes_that_do_not_broadcast_are_both_named():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(4,\)"):
        leaf(2, 3) + leaf(4)


def test_integers_have_no_gradients():
    with pytest.raises(TypeError, match="int64"):
        Tensor(np.arange(3), requires_grad=True)


def test_two_precisions_do_not_mix():
    with pytest.raises(TypeError, match="float32.*float64|float64.*float32"):
        leaf(3, dtype=np.float32) + leaf(3)


def test_a_tensor_of_a_tensor():
    with pytest.raises(TypeError, match="detach"):
        Tensor(leaf(2))
