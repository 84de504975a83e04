//! Calls read and write exactly the given slices, at any alignment.

mod common;

use common::{GRADIENT_ULPS, LOSS_ULPS, REGIMES, Rng, backends, bits, error_in_ulps, pattern, raw_bits};
use rwwce::{Backend, CrossEntropy, Denominator, Error, Logits, Reduction};

/// Longer than a vector and its alignment together.
const GUARD: usize = 40;
/// Every offset of a slice of f32 from a boundary of 64 bytes. This and the constants below are smaller for an
/// interpreter.
const PLACES: usize = if cfg!(miri) { 1 } else { 16 };
/// Step from one number of rows to the next.
const STEP: usize = if cfg!(miri) { 40 } else { 1 };
const SHAPES: usize = if cfg!(miri) { 1 } else { 6 };
const LENGTHS: &[usize] = if cfg!(miri) {
    &[3, 17, 33]
} else {
    &{
        let mut lengths = [0; 300];
        let mut i = 0;
        while i < 300 {
            lengths[i] = i + 1;
            i += 1;
        }
        lengths
    }
};

/// A slice between guard elements, at an offset of choice.
struct Guarded {
    buffer: Vec<f32>,
    start: usize,
    len: usize,
    guard: fn(usize) -> f32,
}

impl Guarded {
    fn new(numbers: &[f32], place: usize, guard: fn(usize) -> f32) -> Self {
        let start = GUARD + place;
        let mut buffer: Vec<f32> = (0..start + numbers.len() + GUARD).map(guard).collect();
        buffer[start..start + numbers.len()].copy_from_slice(numbers);
        Self { buffer, start, len: numbers.len(), guard }
    }

    /// A NaN pattern that no computation returns, so that an unwritten element shows.
    fn output(len: usize, place: usize) -> Self {
        Self::new(&pattern(len), place, sentinel)
    }

    fn get(&self) -> &[f32] {
        &self.buffer[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..][..self.len]
    }

    /// Whether every guard is as it was.
    fn is_intact(&self) -> bool {
        let outside = |i: &usize| *i < self.start || *i >= self.start + self.len;
        (0..self.buffer.len()).filter(outside).all(|i| self.buffer[i].to_bits() == (self.guard)(i).to_bits())
    }
}

/// A quiet NaN that differs from its neighbours.
fn sentinel(i: usize) -> f32 {
    f32::from_bits(0x7fe1_0000 | i as u32)
}

/// Values that show in any sum that includes them, each in its own way.
const INPUT_GUARDS: [fn(usize) -> f32; 3] = [sentinel, |_| 1e38, |_| f32::INFINITY];

/// Rows of every regime: their logits and labels.
fn rows(classes: usize, count: usize, rng: &mut Rng) -> (Vec<f32>, Vec<u16>) {
    let (mut logits, mut labels) = (vec![], vec![]);
    for _ in 0..count {
        let (row, label) = REGIMES[rng.below(REGIMES.len())].row(classes, rng);
        logits.extend(row);
        labels.push(label as u16);
    }
    (logits, labels)
}

/// Bits of row losses and gradient of a call.
#[derive(PartialEq, Debug)]
struct Written {
    losses: Vec<u32>,
    gradient: Vec<u32>,
}

/// Bits of everything that a loss writes, each slice at an offset of its own; checks the guards.
fn write_everything(
    loss: CrossEntropy<'_>,
    backend: Backend,
    (logits, labels): (&[f32], &[u16]),
    (place, guard): (usize, fn(usize) -> f32),
) -> Written {
    let count = labels.len();
    let context = || format!("{backend}, {} logits, {count} rows, place {place}", logits.len());
    let upstream = Guarded::new(&(0..count).map(|row| row as f32 - 0.5).collect::<Vec<f32>>(), place / 2, guard);
    let input = Guarded::new(logits, place, guard);
    let loss = loss.backend(backend);

    let mut losses = Guarded::output(count, (5 * place + 3) % PLACES);
    let summary = loss.row_losses(input.get(), labels, losses.get_mut()).unwrap();
    assert_eq!(summary.rows, count);
    assert!(losses.is_intact(), "row losses: {}", context());

    let mut gradient = Guarded::output(logits.len(), (7 * place + 1) % PLACES);
    loss.gradient(input.get(), labels, upstream.get(), gradient.get_mut()).unwrap();
    assert!(gradient.is_intact(), "gradient: {}", context());
    assert!(input.is_intact() && raw_bits(input.get()) == raw_bits(logits), "{}", context());

    let mut in_place = Guarded::new(logits, place, sentinel);
    loss.gradient_in_place(in_place.get_mut(), labels, upstream.get()).unwrap();
    assert!(in_place.is_intact(), "gradient in place: {}", context());
    assert_eq!(raw_bits(in_place.get()), raw_bits(gradient.get()), "gradient in place: {}", context());

    Written { losses: raw_bits(losses.get()), gradient: raw_bits(gradient.get()) }
}

#[test]
fn rows_of_every_length_are_written_exactly_wherever_they_lie() {
    for backend in backends() {
        let mut rng = Rng(20);
        for &classes in LENGTHS {
            let (logits, labels) = rows(classes, 2, &mut rng);
            let loss = CrossEntropy::new(classes).reduction(Reduction::Sum);
            let call = |place: usize, guard| write_everything(loss, backend, (&logits, &labels), (place, guard));
            let first = call(0, INPUT_GUARDS[0]);
            // No regime has a loss or gradient that is NaN, so every element was written.
            assert!(first.losses.iter().chain(&first.gradient).all(|&x| !f32::from_bits(x).is_nan()));
            for place in 1..PLACES {
                assert_eq!(call(place, INPUT_GUARDS[place % 3]), first, "{backend}, C = {classes}, place {place}");
            }
        }
    }
}

// The last rows do not fill a vector: stores must end with the slices.
#[test]
fn row_losses_of_every_length_are_written_exactly_wherever_they_lie() {
    for backend in backends() {
        let mut rng = Rng(21);
        for count in (0..=50).step_by(STEP) {
            let (logits, labels) = rows(3, count, &mut rng);
            let loss = CrossEntropy::new(3).reduction(Reduction::Sum);
            let call = |place: usize, guard| write_everything(loss, backend, (&logits, &labels), (place, guard));
            let first = call(0, INPUT_GUARDS[0]);
            for place in 1..PLACES {
                assert_eq!(call(place, INPUT_GUARDS[place % 3]), first, "{backend}, {count} rows, place {place}");
            }
        }
    }
}

#[test]
fn padded_rows_are_written_exactly_wherever_they_lie() {
    for backend in backends() {
        let mut rng = Rng(22);
        for (classes, stride) in [(3, 4), (17, 32), (1, 2), (15, 16), (100, 101), (129, 145)].into_iter().take(SHAPES) {
            let count = 5;
            let (dense, labels) = rows(classes, count, &mut rng);
            let loss = CrossEntropy::new(classes).reduction(Reduction::Sum);
            let expected = write_everything(loss, backend, (&dense, &labels), (0, sentinel));

            // The pattern of outputs that are not written.
            let padding = pattern(count * stride);
            let mut logits = padding.clone();
            for (to, from) in logits.chunks_exact_mut(stride).zip(dense.chunks_exact(classes)) {
                to[..classes].copy_from_slice(from);
            }
            for place in 0..PLACES {
                let guard = INPUT_GUARDS[place % 3];
                let found = write_everything(loss.row_stride(stride), backend, (&logits, &labels), (place, guard));
                assert_eq!(found.losses, expected.losses);
                let rows = found.gradient.chunks_exact(stride).zip(expected.gradient.chunks_exact(classes));
                for (row, (found, expected)) in rows.enumerate() {
                    assert_eq!(&found[..classes], expected, "{backend}, C = {classes}, stride {stride}, row {row}");
                    let untouched = raw_bits(&padding[row * stride + classes..(row + 1) * stride]);
                    assert_eq!(found[classes..], untouched, "{backend}, C = {classes}, stride {stride}, row {row}");
                }
            }
        }
    }
}

#[test]
fn rows_without_an_ordinary_gradient_are_written_exactly_too() {
    const INF: f32 = f32::INFINITY;
    for backend in backends() {
        for classes in [5, 17, 1, 2, 16, 130].into_iter().take(SHAPES) {
            // One row each: ignored, of weight 0, NaN, certain of the label, certain of another class, all −∞.
            let mut logits = vec![0.5; 6 * classes];
            logits[2 * classes] = f32::NAN;
            logits[3 * classes] = INF;
            logits[4 * classes + classes - 1] = INF;
            logits[5 * classes..].fill(-INF);
            let last = classes as u16 - 1;
            let labels = [999, last, 0, 0, 0, 0];
            let mut weights = vec![1.0; classes];
            weights[classes - 1] = 0.0;
            let weights = Guarded::new(&weights, 3, sentinel);
            let loss = CrossEntropy::new(classes).class_weights(weights.get()).ignore_index(999);
            let first = write_everything_with_an_ignored_row(loss, backend, &logits, &labels, 0);
            for place in 1..PLACES {
                let found = write_everything_with_an_ignored_row(loss, backend, &logits, &labels, place);
                assert_eq!(found, first, "{backend}, C = {classes}");
            }
            assert!(weights.is_intact());
        }
    }
}

/// The gradient in another buffer and in place, with the same bits except for the payload of NaN.
fn write_everything_with_an_ignored_row(
    loss: CrossEntropy<'_>,
    backend: Backend,
    logits: &[f32],
    labels: &[u16],
    place: usize,
) -> Written {
    let loss = loss.reduction(Reduction::Mean(Denominator::Rows)).backend(backend);
    let input = Guarded::new(logits, place, INPUT_GUARDS[place % 3]);
    let mut losses = Guarded::output(labels.len(), (5 * place + 3) % PLACES);
    loss.row_losses(input.get(), labels, losses.get_mut()).unwrap();
    let mut gradient = Guarded::output(logits.len(), (7 * place + 1) % PLACES);
    loss.gradient(input.get(), labels, 1.0, gradient.get_mut()).unwrap();
    let mut in_place = Guarded::new(logits, place, sentinel);
    loss.gradient_in_place(in_place.get_mut(), labels, 1.0).unwrap();
    assert!(losses.is_intact() && gradient.is_intact() && in_place.is_intact(), "{backend}, place {place}");
    assert!(input.is_intact() && raw_bits(input.get()) == raw_bits(logits), "{backend}, place {place}");
    // The pattern is NaN too: an element whose bits changed was written.
    let written = gradient.get().iter().zip(pattern(logits.len())).all(|(g, p)| g.to_bits() != p.to_bits());
    assert!(written, "{backend}, place {place}");
    assert_eq!(bits(in_place.get()), bits(gradient.get()), "{backend}, place {place}");
    Written { losses: bits(losses.get()), gradient: bits(gradient.get()) }
}

#[test]
fn probabilities_are_read_and_their_losses_written_exactly() {
    for backend in backends() {
        let mut rng = Rng(23);
        for count in (1..=50).step_by(STEP) {
            let probabilities: Vec<f32> = (0..3 * count).map(|_| rng.between(0.0, 1.0)).collect();
            let labels: Vec<u16> = (0..count).map(|_| rng.below(3) as u16).collect();
            let call = |place: usize| {
                let input = Guarded::new(&probabilities, place, INPUT_GUARDS[place % 3]);
                let mut losses = Guarded::output(count, (5 * place + 3) % PLACES);
                let loss = CrossEntropy::new(3).backend(backend);
                loss.row_losses_from_probabilities(input.get(), &labels, 1e-6, losses.get_mut()).unwrap();
                assert!(losses.is_intact() && input.is_intact(), "{backend}, {count} rows, place {place}");
                assert_eq!(raw_bits(input.get()), raw_bits(&probabilities));
                assert!(losses.get().iter().all(|loss| loss.is_finite()));
                raw_bits(losses.get())
            };
            let first = call(0);
            for place in 1..PLACES {
                assert_eq!(call(place), first, "{backend}, {count} rows, place {place}");
            }
        }
    }
}

#[test]
fn decisions_read_and_write_exactly_their_slices_wherever_they_lie() {
    for backend in backends() {
        let mut rng = Rng(25);
        for &classes in LENGTHS {
            let count = 1 + classes % 11;
            let (logits, _) = rows(classes, count, &mut rng);
            let costs: Vec<f32> = (0..classes).map(|_| rng.between(0.5, 2.0)).collect();
            let call = |place: usize| {
                let guard = INPUT_GUARDS[place % 3];
                let (input, costs) = (Guarded::new(&logits, place, guard), Guarded::new(&costs, place / 2, guard));
                let mut expected = Guarded::output(count, (5 * place + 3) % PLACES);
                let mut decisions = vec![7; count + 2];
                let loss = CrossEntropy::new(classes).class_weights(costs.get()).backend(backend);
                loss.decide(input.get(), &mut decisions[1..=count], Some(expected.get_mut())).unwrap();
                assert!(input.is_intact() && costs.is_intact() && expected.is_intact(), "{backend}, C = {classes}");
                assert_eq!((decisions[0], decisions[count + 1]), (7, 7), "{backend}, C = {classes}");
                assert!(expected.get().iter().all(|cost| !cost.is_nan()), "{backend}, C = {classes}");
                (decisions, raw_bits(expected.get()))
            };
            let first = call(0);
            for place in 1..PLACES {
                assert_eq!(call(place), first, "{backend}, C = {classes}, place {place}");
            }
        }
    }
}

#[test]
fn log_sum_exp_reads_exactly_its_row_wherever_it_lies() {
    for backend in backends() {
        let mut rng = Rng(24);
        for &len in LENGTHS {
            let row: Vec<f32> = (0..len).map(|_| rng.between(-20.0, 20.0)).collect();
            let call = |place: usize| {
                let row = Guarded::new(&row, place, INPUT_GUARDS[place % 3]);
                backend.log_sum_exp(row.get()).to_bits()
            };
            let first = call(0);
            for place in 1..PLACES {
                assert_eq!(call(place), first, "{backend}, {len} elements, place {place}");
            }
        }
    }
}

/// More elements than 32 bits count. Zeroed logits that are never written take no physical memory.
#[cfg(target_pointer_width = "64")]
const MANY: usize = (1 << 31) + 21;

#[test]
#[cfg(target_pointer_width = "64")]
#[ignore = "reads 2³¹ numbers with each backend, and writes 9 GB"]
fn more_elements_than_32_bits_count() {
    let (zeros, bytes, label) = (vec![0f32; MANY], vec![0u8; 2 * MANY], [MANY as u32 - 1]);
    let integers = Logits::U8 { values: &bytes, scale: 0.5, zero_point: 3 };
    let labels = &bytes[..MANY];
    for backend in backends() {
        let of = |classes| CrossEntropy::new(classes).backend(backend);
        let near = |found: f32, expected: f64| {
            let error = error_in_ulps(found, expected);
            assert!(error <= LOSS_ULPS, "{backend}: {found} instead of {expected}: {error} ulp");
        };
        let row = of(MANY);
        near(row.loss(&zeros[..], &label).unwrap().loss, (MANY as f64).ln());
        near(
            row.loss(Logits::U8 { values: labels, scale: 0.5, zero_point: 3 }, &label).unwrap().loss,
            (MANY as f64).ln(),
        );
        near(row.label_smoothing(0.5).loss(&zeros[..], &label).unwrap().loss, (MANY as f64).ln());
        // As many rows of two classes, and as many positions.
        for loss in [of(2), of(2).positions(MANY)] {
            let found = loss.loss(integers, labels).unwrap();
            near(found.loss, std::f64::consts::LN_2);
            assert_eq!((found.rows, found.denominator), (MANY, MANY as f64), "{backend}");
        }
        let wrong = row.loss(&zeros[..], &[MANY as i64]).unwrap_err();
        assert!(matches!(wrong, Error::LabelOutOfRange { row: 0, .. }), "{wrong}");
    }
    // In place, where the zeros are written and take memory.
    let mut gradient = zeros;
    let loss = CrossEntropy::new(MANY);
    loss.gradient_in_place(&mut gradient, &label, 1.0).unwrap();
    let (last, others) = gradient.split_last().unwrap();
    assert_eq!(*last, -1.0);
    for (class, &element) in others.iter().enumerate() {
        let error = error_in_ulps(element, 1.0 / MANY as f64);
        assert!(error <= GRADIENT_ULPS, "class {class}: {element}");
    }
}
