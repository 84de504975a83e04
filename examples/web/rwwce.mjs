// The functions of the WebAssembly module, for a browser and for Node.

/** What the library refuses, in its own words; `row`, counted from 0, where it names one. */
export class Refused extends Error {
  constructor(message, row) {
    super(message);
    this.row = row;
  }
}

/** The module, from its bytes. `result` takes what `report` computes: classes, name, bits. */
export async function load(bytes, result = () => {}) {
  const decode = (at, length) => new TextDecoder().decode(new Uint8Array(module.memory.buffer, at, length));
  let text, summary;
  const host = {
    result: (classes, name, length, bits) => result(classes, decode(name, length), bits >>> 0),
    text: (at, length) => { text += decode(at, length); },
    summary: (loss, denominator, rows, nonFinite) => { summary = { loss, denominator, rows, nonFinite }; },
  };
  const { exports: module } = (await WebAssembly.instantiate(bytes, { host })).instance;

  /** Arrays in the memory that the module does not use itself; those whose elements are largest come first. */
  function room(...wanted) {
    const start = Math.ceil(module.__heap_base.value / 8) * 8;
    const size = wanted.reduce((bytes, [type, length]) => bytes + type.BYTES_PER_ELEMENT * length, 0);
    const missing = start + size - module.memory.buffer.byteLength;
    if (missing > 0) module.memory.grow(Math.ceil(missing / 65536));
    let at = start;
    return wanted.map(([type, length]) => {
      const array = new type(module.memory.buffer, at, length);
      at += array.byteLength;
      return array;
    });
  }

  const backends = [];
  for (;;) {
    text = "";
    const fused = module.backend(backends.length);
    if (fused < 0) break;
    backends.push({ name: text, fused: fused === 1 });
  }

  return {
    /** The backends, the fastest first. */
    backends,

    /** Computes the fixed set with a backend, by its number; false if there is none of this number. */
    report: (backend) => module.report(backend) === 1,

    /**
     * The mean over the weight sum, the loss of each row, and the gradient of the mean.
     *
     * `logits` (Float32Array, row by row), `labels` (BigInt64Array), `classWeights` (Float32Array, empty for none).
     */
    lossGradient({ classes, logits, labels, classWeights }, backend = 0) {
      const rows = labels.length;
      const [ownLabels, ownLogits, ownWeights, rowLosses] = room(
        [BigInt64Array, rows], [Float32Array, rows * classes], [Float32Array, classWeights.length], [Float32Array, rows]);
      ownLabels.set(labels);
      ownLogits.set(logits);
      ownWeights.set(classWeights);
      text = "";
      const refused = module.loss_gradient(backend, rows, classes, ownLogits.byteOffset, ownLabels.byteOffset,
        ownWeights.byteOffset, classWeights.length, rowLosses.byteOffset);
      if (refused !== 0) throw new Refused(text, refused > 0 ? refused - 1 : undefined);
      return { ...summary, rowLosses: rowLosses.slice(), gradient: ownLogits.slice() };
    },
  };
}
