"""Arrays of any type, layout and shape give the bits of a contiguous copy, or an error that names an argument."""

import unittest

import numpy
import rwwce
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

# The same examples in every run, so that only a change of the code makes a test fail.
EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

NUMBERS = st.one_of(
    st.floats(-20, 20, width=16),
    st.sampled_from([0.0, -0.0, 1e4, -1e4, numpy.inf, -numpy.inf, numpy.nan, 6e-8]),
)
SIZES = st.integers(0, 40)
# Argument names of the package and of the library.
ARGUMENTS = (
    r"^(input|target|weight|pos_weight|miss_costs|mislabel_costs|sample_weight|upstream|loss"
    r"|logits|labels|targets|class weights|sample weights|mislabel costs|costs|the number of classes)\b.*(: |, expected)"
)


def in_columns(array):
    return numpy.asfortranarray(array)


def backwards(array):
    return array[::-1].copy()[::-1]


def apart(array):
    """A strided view: every second element of an array, with NaN or −1 between them."""
    between = numpy.full((*array.shape[:-1], 2 * array.shape[-1]), numpy.nan if array.dtype.kind == "f" else -1, array.dtype)
    between[..., ::2] = array
    return between[..., ::2]


def other_bytes(array):
    return array.astype(array.dtype.newbyteorder())


def locked(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def listed(array):
    return array.tolist()


LAYOUTS = st.sampled_from([in_columns, backwards, apart, other_bytes, locked])


@st.composite
def batches(draw):
    """Logits in float16, labels, class weights, sample weights and mislabel costs, of matching shapes."""
    rows, classes = draw(SIZES), draw(st.integers(1, 40))
    x = draw(arrays.arrays(numpy.float16, (rows, classes), elements=NUMBERS.map(numpy.float16)))
    y = draw(arrays.arrays(numpy.int16, (rows,), elements=st.one_of(st.integers(0, classes - 1), st.just(-100))))
    some = lambda *shape: draw(arrays.arrays(numpy.float32, shape, elements=st.floats(0, 8, width=32)))  # noqa: E731
    costs = some(classes, classes)
    numpy.fill_diagonal(costs, 0)
    return x, y, some(classes), some(rows), costs


# Functions of logits, labels, class weights, sample weights and mislabel costs.
CALLS = {
    "labels": lambda x, y, w, s, c: rwwce.cross_entropy(x, y, w, sample_weight=s, reduction="none"),
    "smoothing": lambda x, y, w, s, c: rwwce.cross_entropy(x, y, w, label_smoothing=0.1, reduction="sum"),
    "costs": lambda x, y, w, s, c: rwwce.real_world_weight_cross_entropy(x, y, w, c, sample_weight=s, reduction="none"),
    "log-probabilities": lambda x, y, w, s, c: rwwce.nll_loss(x, y, w, reduction="none"),
    "log-softmax": lambda x, y, w, s, c: rwwce.log_softmax(x),
    "log-sum-exp": lambda x, y, w, s, c: rwwce.log_sum_exp(x),
    "gradient": lambda x, y, w, s, c: rwwce.value_and_grad(rwwce.cross_entropy, x, y, w, sample_weight=s)[1],
    "curvature": lambda x, y, w, s, c: rwwce.curvature(rwwce.real_world_weight_cross_entropy, x, y, w, c),
    "decisions": lambda x, y, w, s, c: numpy.stack(rwwce.decide(x, w, c)),
}
TYPES = {numpy.float16: numpy.float16, numpy.float32: numpy.float32, numpy.float64: numpy.float64}


class Hostile(unittest.TestCase):
    @EXAMPLES
    @given(batches(), st.sampled_from(sorted(CALLS)), st.sampled_from(list(TYPES)), st.lists(LAYOUTS, min_size=5, max_size=5))
    def test_any_layout_has_the_bits_of_a_plain_copy(self, batch, call, kind, layouts):
        plain = (batch[0].astype(kind), batch[1].astype(numpy.int64), *batch[2:])
        expected = CALLS[call](*plain)
        given_ = [layout(array) for layout, array in zip(layouts, (batch[0].astype(kind), *batch[1:]))]
        copies = [numpy.array(array) for array in given_]
        numpy.testing.assert_array_equal(CALLS[call](*given_), expected)
        in_lists = [array.tolist() if array.size else array for array in given_]
        numpy.testing.assert_array_equal(CALLS[call](*in_lists), expected)
        for array, copy in zip(given_, copies):
            numpy.testing.assert_array_equal(array, copy)

    @EXAMPLES
    @given(st.data(), st.sampled_from(sorted(CALLS)))
    def test_whatever_is_given_has_a_result_or_an_error(self, data, call):
        anything = arrays.arrays(
            st.one_of(arrays.scalar_dtypes(), st.just(numpy.dtype(object)), arrays.unicode_string_dtypes()),
            arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        )
        matching = data.draw(batches())
        given_ = [data.draw(st.one_of(anything, st.just(array), st.none())) for array in matching]
        try:
            found = CALLS[call](*given_)
        except (TypeError, ValueError) as error:
            if isinstance(error, ValueError):
                self.assertRegex(str(error), ARGUMENTS)
        else:
            self.assertIn(numpy.asarray(found).dtype.kind, "f")


if __name__ == "__main__":
    unittest.main()
