"""The largest number of each square of an image, and the way back.  Each number is read and written once."""
from nn.kernels import kernel


@kernel
def largest(x, winners, out):
    """out[n,i,j,c] = the largest number of a square of x (NaN is larger than all); winners: its first place."""
    count, height, width, channels = out.shape
    size = x.shape[1] // height
    for n in range(count):
        for i in range(height):
            for j in range(width):
                for c in range(channels):
                    out[n, i, j, c] = x[n, i * size, j * size, c]
                    winners[n, i, j, c] = 0
                for k in range(1, size * size):
                    row, column = i * size + k // size, j * size + k % size
                    for c in range(channels):
                        new, old = x[n, row, column, c], out[n, i, j, c]
                        wins = (new > old) | ((new != new) & (old == old))
                        out[n, i, j, c] = new if wins else old
                        winners[n, i, j, c] = k if wins else winners[n, i, j, c]


@kernel
def to_winners(grad, winners, out):
    """Each number of grad goes to the place in its square of `out` that won; all other places get 0."""
    count, height, width, channels = grad.shape
    size = out.shape[1] // height
    for n in range(count):
        for i in range(height):
            for j in range(width):
                for k in range(size * size):
                    row, column = i * size + k // size, j * size + k % size
                    for c in range(channels):
                        out[n, row, column, c] = grad[n, i, j, c] if winners[n, i, j, c] == k else 0
