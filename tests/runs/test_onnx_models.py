"""JAX functions as ONNX: each rule and replacement, run in onnxruntime with batches of two sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from valuelab.errors import InputError
from valuelab.ops.flow import integrate
from valuelab.runs import exported_policies
from valuelab.runs.exported_policies import Port


def write(path, functions, shape=(3,)):
    """Writes a file with an output for each function of observations and a random key."""

    def act(observations, seed):
        key = jax.random.wrap_key_data(seed)
        return tuple(function(observations, key) for function in functions.values())

    outputs = [Port(name, (), np.float32, "") for name in functions]
    exported_policies.write(path, act, [Port("observation", shape, np.float32, "")], outputs, {})
    return act


def assert_alike(path, functions, shape=(3,)):
    act = jax.jit(write(path, functions, shape))
    session = onnxruntime.InferenceSession(path)
    for size in (1, 4):
        observations = np.random.default_rng(size).normal(size=(size, *shape)).astype(np.float32)
        given = {"observation": observations, "seed": np.asarray([3, size], np.uint32)}
        outputs = session.run(None, {each.name: given[each.name] for each in session.get_inputs()})
        expected = act(given["observation"], given["seed"])
        for name, ours, theirs in zip(functions, outputs, expected, strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6, err_msg=name)


def largest(x):
    return jnp.argmax(x, axis=-1)


FUNCTIONS = {
    "all": lambda x, _: jnp.all(x > 0, axis=1) | jnp.any(x > 1, axis=1),
    "argmin": lambda x, _: jnp.argmin(x, axis=-1),
    "argsort": lambda x, _: jnp.argsort(x, axis=-1),
    "cumsum": lambda x, _: jnp.cumsum(x, axis=1),
    "einsum": lambda x, _: jnp.einsum("bi,bj->bij", x, x),
    "expm1": lambda x, _: jnp.expm1(x),
    "exact_gelu": lambda x, _: jax.nn.gelu(x, approximate=False),
    "flip": lambda x, _: jnp.flip(x, 1),
    "integer_pow": lambda x, _: x**3 + (1 + x**2) ** -2,
    "integrate": lambda x, _: integrate(lambda points, time: jnp.tanh(points + time), x, 3, "heun"),
    "isnan": lambda x, _: jnp.isnan(x),
    "logsumexp": lambda x, _: jax.nn.logsumexp(x, axis=-1),
    "mean": lambda x, _: x - jnp.mean(x, axis=0, keepdims=True),
    "median": lambda x, _: jnp.median(x, axis=1),
    "mod": lambda x, _: jnp.mod(x, 0.7),
    "norm": lambda x, _: jnp.linalg.norm(x, axis=-1),
    "one_hot": lambda x, _: jax.nn.one_hot(largest(x), 3),
    "pad": lambda x, _: jax.lax.pad(x, -1.0, ((0, 0, 0), (-1, 2, 0))),
    "place": lambda x, _: x[jnp.arange(x.shape[0]), largest(x)],
    "power": lambda x, _: jnp.power(jnp.abs(x), 1.5) * jnp.sign(x),
    "repeat": lambda x, _: jnp.repeat(x, 2, axis=1),
    "roll": lambda x, _: jnp.roll(x, 1, axis=1),
    "round": lambda x, _: jnp.round(x),
    "select": lambda x, _: jnp.where(x > 0, x, 2 * x) * jnp.where(x > 1, x > 2, x < 0),
    "softplus": lambda x, _: jax.nn.softplus(5 * x),
    "sort": lambda x, _: jnp.sort(x, axis=-1),
    "split": lambda x, _: jnp.split(x, 3, axis=1)[1],
    "stack": lambda x, _: jnp.stack([x, 2 * x], 1),
    "std": lambda x, _: jnp.std(x, axis=1),
    "take": lambda x, _: jnp.take(jnp.arange(12.0).reshape(3, 4), largest(x), axis=0, mode="clip"),
    "take_along_axis": lambda x, _: jnp.take_along_axis(x, largest(x)[:, None], 1),
    "tile": lambda x, _: jnp.tile(x, (1, 2)),
    "vmapped_take": lambda x, _: jax.vmap(lambda row: jnp.arange(5.0)[jnp.argmax(row) + 1])(x),
    "window": lambda x, _: jax.vmap(lambda row: jax.lax.dynamic_slice(row, (1,), (2,)))(x),
}
RANDOM = {
    "bernoulli": lambda x, key: jax.random.bernoulli(key, 0.3, (x.shape[0],)),
    "categorical": lambda x, key: jax.random.categorical(key, x),
    "folded": lambda x, key: jax.random.uniform(jax.random.fold_in(key, 7), (x.shape[0], 5), minval=-2.0),
    "normal": lambda x, key: jax.random.normal(jax.random.split(key)[1], (x.shape[0], 100)),
    "of_rows": lambda x, key: jax.vmap(jax.random.normal)(jax.random.split(key, x.shape[0])),
    "randint": lambda x, key: jax.random.randint(key, (x.shape[0], 2), -3, 5),
    "truncated": lambda x, key: jax.random.truncated_normal(key, -1.0, 1.0, x.shape),
}


def test_functions_are_the_same_in_onnx(tmp_path):
    assert_alike(tmp_path / "model.onnx", FUNCTIONS)


def test_random_numbers_are_those_of_jax(tmp_path):
    assert_alike(tmp_path / "model.onnx", RANDOM)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolutions_are_the_same_in_onnx(tmp_path, padding):
    """Accelerators export them; on CPUs our encoders multiply patches."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 5)).astype(np.float32)

    def convolve(images, _):
        return jax.lax.conv_general_dilated(
            images, kernel, (2, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert_alike(tmp_path / "model.onnx", {"convolution": convolve}, (7, 6, 2))


def test_noise_that_is_multiplied_by_zero_needs_no_seed(tmp_path):
    path = tmp_path / "model.onnx"
    silent = {
        "scaled": lambda x, key: x + 0.0 * jax.random.normal(key, x.shape),
        "explored": lambda x, key: jnp.where(
            jax.random.uniform(key, (x.shape[0],)) < 0.0,
            jax.random.randint(key, (x.shape[0],), 0, 3),
            largest(x),
        ),
    }
    assert_alike(path, silent)
    session = onnxruntime.InferenceSession(path)
    assert [each.name for each in session.get_inputs()] == ["observation"]


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x, _: jnp.linalg.cholesky(jnp.eye(3)[None] + 0 * x[..., None]), "the primitive cholesky"),
        (lambda x, _: jnp.fft.fft(x).real, "the primitive fft"),
        (lambda x, _: jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x), "the primitive while"),
        (lambda x, _: jax.lax.sort((x, x), num_keys=2)[0], "a sort by several arrays"),
    ],
)
def test_what_has_no_form_in_onnx_is_named(tmp_path, function, what):
    with pytest.raises(
        InputError, match=rf"^the policy uses {what}, which has no form in ONNX here: export a"
    ):
        write(tmp_path / "model.onnx", {"output": function})
    assert not list(tmp_path.iterdir())
