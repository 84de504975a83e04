"""Writes the array files of this folder, in which it is to be run, with the values of ../../data/*.npy."""

import numpy as np

logits = np.array([[17, 0, 0], [17, 0, 0], [0, 0, 0], [2, 1, 0.5], [-1, 3, 0.25], [5, -5, 0], [1000, 1000, 999], [0.5, -1.5, 2]])
labels = np.array([0, 2, 1, 1, 1, -100, 0, 2])
weights = np.array([1, 2.5, 4])

# Valid files.
np.save("float16.npy", logits.astype("<f2"))
np.save("float64.npy", logits)
np.save("rounded.npy", logits + 1e-9)
np.save("big_endian.npy", logits.astype(">f8"))
np.save("fortran.npy", np.asfortranarray(logits.astype("<f4")))
np.save("integers.npy", np.array([[3, -1, 0], [-2, 4, 1], [0, 0, 5]], "i1"))
np.save("column_labels.npy", labels.astype("<i2").reshape(-1, 1))
np.save("bool_labels.npy", np.array([False, True, True]))
np.save("uint64_labels.npy", np.array([0, 1, 2], "<u8"))
np.savez("stored.npz", logits=logits.astype("<f4"), labels=labels, weights=weights)
np.savez_compressed("compressed.npz", logits.astype("<f4"), labels)
np.savez_compressed("named.npz", x=logits.astype("<f4"), y=labels, w=weights)


def save_with_header(path, header, data):
    """Writes a file with a header as other programs and older versions of NumPy do."""
    header = header.encode() + b"\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data)


dictionary = "{{'shape': ({}), 'descr': '{}', 'fortran_order': False}}"
save_with_header("long_shape.npy", dictionary.format("8L, 3L", "=f4"), logits.astype("<f4").tobytes())

# Invalid files.
np.save("object.npy", np.array([[1, None, 2]], object), allow_pickle=True)
np.save("fields.npy", np.zeros(3, [("a", "<f4"), ("b", "<i8", 2)]))
np.save("text.npy", np.array([["1", "2"]]))
np.save("complex.npy", logits.astype("<c8"))
np.save("float_labels.npy", labels.astype(float))
np.save("too_large.npy", np.array([[1e300, 0, 0]]))
