//! Losses as functions of one variable, through the entry points, over all f32: some bit patterns and those near the
//! edges always, every 997th or all on demand. (`exp`, `log1p` and `log` have scans of their own in `src/kernel`.)

mod common;

use common::{GRADIENT_ULPS, LOSS_ULPS, backends, error_in_ulps, is_slow};
use rwwce::{Backend, BinaryCrossEntropy, CrossEntropy, Reduction};

/// Arguments of a function per call.
const BLOCK: usize = 1 << 12;

/// A function from one column of arguments to one or more columns of results.
struct Function {
    name: &'static str,
    compute: fn(Backend, &[f32], &mut Vec<Vec<f32>>),
    reference: fn(f64) -> Vec<f64>,
    ulps: &'static [f64],
}

/// log(1 + eᶻ)
fn softplus(z: f64) -> f64 {
    if z > 0.0 { z + (-z).exp().ln_1p() } else { z.exp().ln_1p() }
}

/// The derivative of [`softplus`].
fn sigmoid(z: f64) -> f64 {
    if z > 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

const FUNCTIONS: [Function; 3] = [
    // Rows of the logits (0, z) with label 0: every gap of two logits.
    Function {
        name: "two classes",
        compute: |backend, numbers, out| {
            let logits: Vec<f32> = numbers.iter().flat_map(|&z| [0.0, z]).collect();
            let labels = vec![0u8; numbers.len()];
            let loss = CrossEntropy::new(2).reduction(Reduction::Sum).backend(backend);
            let (mut losses, mut gradient) = (vec![7.0; numbers.len()], vec![7.0; logits.len()]);
            loss.row_losses(&logits, &labels, &mut losses).unwrap();
            loss.gradient(&logits, &labels, 1.0, &mut gradient).unwrap();
            let [of_label, of_other] = [0, 1].map(|at| gradient.iter().skip(at).step_by(2).copied().collect());
            *out = vec![losses, of_label, of_other];
        },
        reference: |z| vec![softplus(z), -sigmoid(z), sigmoid(z)],
        ulps: &[LOSS_ULPS, GRADIENT_ULPS, GRADIENT_ULPS],
    },
    Function {
        name: "binary",
        compute: |backend, numbers, out| {
            let targets = vec![0.0; numbers.len()];
            let loss = BinaryCrossEntropy::new(1).reduction(Reduction::Sum).backend(backend);
            let (mut losses, mut gradient) = (vec![7.0; numbers.len()], vec![7.0; numbers.len()]);
            loss.row_losses(numbers, &targets, &mut losses).unwrap();
            loss.gradient(numbers, &targets, 1.0, &mut gradient).unwrap();
            *out = vec![losses, gradient];
        },
        reference: |z| vec![softplus(z), sigmoid(z)],
        ulps: &[6.0, 6.0],
    },
    Function {
        name: "from probabilities",
        compute: |backend, numbers, out| {
            let (labels, mut losses) = (vec![0u8; numbers.len()], vec![7.0; numbers.len()]);
            let loss = CrossEntropy::new(1).backend(backend);
            loss.row_losses_from_probabilities(numbers, &labels, 0.0, &mut losses).unwrap();
            *out = vec![losses];
        },
        // −log 0 = +∞ for either zero, and there is no logarithm of a negative number.
        reference: |p| vec![if p == 0.0 { f64::INFINITY } else { -p.ln() }],
        ulps: &[LOSS_ULPS],
    },
];

fn scan(function: &Function, step: u64, slow: bool) {
    let backends: Vec<Backend> = backends().into_iter().filter(|&backend| slow || !is_slow(backend)).collect();
    let mut worst = vec![vec![(0.0, 0.0f32); function.ulps.len()]; backends.len()];
    let mut count = 0u64;
    let mut check = |numbers: &[f32]| {
        count += numbers.len() as u64;
        let expected: Vec<Vec<f64>> = numbers.iter().map(|&x| (function.reference)(f64::from(x))).collect();
        let mut found = Vec::new();
        for (&backend, worst) in backends.iter().zip(&mut worst) {
            (function.compute)(backend, numbers, &mut found);
            for (column, (found, &ulps)) in found.iter().zip(function.ulps).enumerate() {
                for ((&x, &found), expected) in numbers.iter().zip(found).zip(&expected) {
                    let error = error_in_ulps(found, expected[column]);
                    let name = function.name;
                    assert!(
                        error <= ulps,
                        "{backend}: {name} of {x:e}, {column}: {found:e}, not {:e}",
                        expected[column]
                    );
                    if error > worst[column].0 {
                        worst[column] = (error, x);
                    }
                }
            }
        }
    };
    // Zeros, ends of the subnormal and normal ranges, NaN, and gaps near overflow and underflow of exponentials.
    let edges = [
        0.0,
        f32::MIN_POSITIVE,
        1.0,
        17.0,
        44.0,
        58.0,
        87.3,
        88.0,
        88.7,
        103.9,
        128.0,
        256.0,
        384.0,
        f32::MAX,
        f32::NAN,
    ];
    let near = |x: f32| (0..64).map(move |i| f32::from_bits(x.to_bits().wrapping_add(i).wrapping_sub(32)));
    check(&edges.into_iter().flat_map(|x| [x, -x]).flat_map(near).collect::<Vec<f32>>());
    let mut from = 0;
    while from < 1 << 32 {
        let number = |i: u64| f32::from_bits((from + i * step).min(u32::MAX.into()) as u32);
        check(&(0..BLOCK as u64).map(number).collect::<Vec<f32>>());
        from += BLOCK as u64 * step;
    }
    for (backend, worst) in backends.iter().zip(&worst) {
        let worst: Vec<String> = worst.iter().map(|(error, x)| format!("{error:.3} ulp at {x:e}")).collect();
        println!("{:>10} {}, {count} numbers: ≤ {}", backend.name(), function.name, worst.join(", "));
    }
}

#[test]
fn functions_of_one_number_are_within_their_bounds() {
    for function in &FUNCTIONS {
        scan(function, 499_979, true);
    }
}

// On demand: cargo test --test every_number every_997th -- --ignored --nocapture
#[test]
#[ignore = "takes a minute"]
fn every_997th_number_is_within_the_bounds() {
    for function in &FUNCTIONS {
        scan(function, 997, true);
    }
}

#[test]
#[ignore = "all 2^32 bit patterns take hours"]
fn every_single_number_is_within_the_bounds() {
    for function in &FUNCTIONS {
        scan(function, 1, false);
    }
}
