//! A fixed set of losses and gradients. Every processor of a class must print the same bits for it.

use rwwce::{Backend, CrossEntropy, Error, Logits, RowPartial};

const ROWS: usize = 9;
const MOST_CLASSES: usize = 40;

/// A linear congruential generator: integers, exact in f32 and the same everywhere.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    /// In [0, 2^power), in steps of 2^(power − 24).
    fn below(&mut self, power: i32) -> f32 {
        let step = f32::from_bits(((power - 24 + 127) as u32) << 23);
        self.next() as f32 * step
    }
}

/// FNV-1a of the bits.
fn hash(numbers: &[f32]) -> u32 {
    let bytes = numbers.iter().flat_map(|number| number.to_bits().to_le_bytes());
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Computes everything and hands out each result with its name and number of classes.
pub(crate) fn report(backend: Backend, mut line: impl FnMut(&str, usize, u32)) -> Result<(), Error> {
    let mut numbers = Numbers(20_201);
    for classes in [2, 3, 10, MOST_CLASSES] {
        let (mut logits, mut gradient) = ([0.0; ROWS * MOST_CLASSES], [0.0; ROWS * MOST_CLASSES]);
        let (mut weights, mut costs) = ([0.0; MOST_CLASSES], [0.0; MOST_CLASSES * MOST_CLASSES]);
        let (mut labels, mut row_losses) = ([0u8; ROWS], [0.0; ROWS]);
        let logits = &mut logits[..ROWS * classes];
        let gradient = &mut gradient[..ROWS * classes];
        logits.fill_with(|| numbers.below(4) - 8.0);
        weights.fill_with(|| numbers.below(1) + 0.25);
        labels.fill_with(|| (numbers.next() as usize % classes) as u8);
        for (cell, cost) in costs[..classes * classes].iter_mut().enumerate() {
            *cost = if cell / classes == cell % classes { 0.0 } else { numbers.below(4) };
        }
        // A confident row, a wrong one, a masked class, a large offset, and an infinite logit.
        logits[usize::from(labels[0])] = 40.0;
        logits[classes + usize::from(labels[1])] = -200.0;
        logits[2 * classes + (usize::from(labels[2]) + 1) % classes] = f32::NEG_INFINITY;
        logits[3 * classes..4 * classes].iter_mut().for_each(|x| *x += 65536.0);
        logits[4 * classes + usize::from(labels[4])] = f32::INFINITY;

        let logits = &*logits;
        let weighted = CrossEntropy::new(classes).class_weights(&weights[..classes]).backend(backend);
        let summary = weighted.row_losses(logits, &labels, &mut row_losses)?;
        line("weighted loss", classes, summary.loss.to_bits());
        line("weighted losses", classes, hash(&row_losses));
        weighted.gradient(logits, &labels, 1.0, gradient)?;
        line("weighted gradient", classes, hash(gradient));

        let real_world = weighted.mislabel_costs(&costs[..classes * classes]);
        real_world.row_losses(logits, &labels, &mut row_losses)?;
        line("real-world-weight losses", classes, hash(&row_losses));
        real_world.gradient(logits, &labels, 1.0, gradient)?;
        line("real-world-weight gradient", classes, hash(gradient));

        weighted.log_probabilities(logits, gradient)?;
        line("log-probabilities", classes, hash(gradient));
        line("log-sum-exp", classes, backend.log_sum_exp(&logits[5 * classes..6 * classes]).to_bits());

        let mut stored = [0i8; ROWS * MOST_CLASSES];
        stored.fill_with(|| numbers.next() as i8);
        let values = &stored[..ROWS * classes];
        let integers = Logits::I8 { values, scale: 0.125, zero_point: -5 };
        weighted.row_losses(integers, &labels, &mut row_losses)?;
        line("weighted losses of integers", classes, hash(&row_losses));
        weighted.gradient(integers, &labels, 1.0, gradient)?;
        line("weighted gradient of integers", classes, hash(gradient));
    }
    in_chunks(backend, &mut numbers, &mut line)
}

/// A row as long as the vocabulary of a language model, of which at most a chunk is in memory: its logits are generated
/// twice.
fn in_chunks(backend: Backend, numbers: &mut Numbers, line: &mut impl FnMut(&str, usize, u32)) -> Result<(), Error> {
    const CLASSES: usize = 32_000;
    const LABEL: usize = 12_345;
    const CHUNK: usize = 160;
    let seed = numbers.0;
    let label_in = |start: usize| LABEL.checked_sub(start).filter(|&label| label < CHUNK);
    let mut chunk = [0i8; CHUNK];

    let mut whole = RowPartial::default();
    for start in (0..CLASSES).step_by(CHUNK) {
        chunk.fill_with(|| numbers.next() as i8);
        let logits = Logits::I8 { values: &chunk, scale: 0.0625, zero_point: 3 };
        whole.merge(&RowPartial::with_backend(logits, label_in(start), backend)?);
    }
    line("loss in chunks", CLASSES, whole.loss(2.5)?.to_bits());
    line("log-sum-exp in chunks", CLASSES, whole.log_sum_exp().to_bits());

    let (mut again, mut gradient, mut all) = (Numbers(seed), [0.0; CHUNK], 0u32);
    for start in (0..CLASSES).step_by(CHUNK) {
        chunk.fill_with(|| again.next() as i8);
        let logits = Logits::I8 { values: &chunk, scale: 0.0625, zero_point: 3 };
        whole.gradient(logits, label_in(start), 2.5, &mut gradient)?;
        all = all.rotate_left(1) ^ hash(&gradient);
    }
    line("gradient in chunks", CLASSES, all);
    Ok(())
}
