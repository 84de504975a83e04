//! Trains on this machine: `cargo run`, or `cargo run -- scalar-fma` for the bits of the microcontroller. Also trains
//! with the matrix products of ndarray (crate matrixmultiply), for larger layers.

use std::env;
use std::error::Error;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use rwwce::{Backend, CrossEntropy};
use rwwce_last_layer::{Cases, Failure, Layer, Memory, Problem, Products, STEPS, report};

/// Matrix products of ndarray, whose order of summation is unspecified.
struct Matrices;

impl Products for Matrices {
    fn logits(&self, width: usize, features: &[f32], weights: &[f32], logits: &mut [f32]) {
        let (features, weights) = (matrix(width, features), matrix(width, weights));
        let mut logits = matrix_mut(weights.nrows(), logits);
        general_mat_mul(1.0, &features, &weights.t(), 0.0, &mut logits);
    }

    fn add_gradient(&self, width: usize, features: &[f32], of_logits: &[f32], gradient: &mut [f32]) {
        let (features, mut gradient) = (matrix(width, features), matrix_mut(width, gradient));
        let of_logits = matrix(gradient.nrows(), of_logits);
        general_mat_mul(1.0, &of_logits.t(), &features, 1.0, &mut gradient);
    }
}

fn matrix(columns: usize, elements: &[f32]) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((elements.len() / columns, columns), elements).expect("whole rows")
}

fn matrix_mut(columns: usize, elements: &mut [f32]) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((elements.len() / columns, columns), elements).expect("whole rows")
}

/// Weights after training, and the mean loss of the last step.
fn train(
    products: &impl Products,
    loss: &CrossEntropy<'_>,
    (classes, cases): (usize, Cases<'_>),
    (steps, rate): (usize, f32),
    rows: usize,
) -> Result<(Vec<f32>, f64), rwwce::Error> {
    let mut weights = vec![0.0; classes * cases.width];
    let (mut gradient, mut logits) = (weights.clone(), vec![0.0; classes * rows]);
    let mut layer = Layer { weights: &mut weights, gradient: &mut gradient, logits: &mut logits };
    let mut last = 0.0;
    for _ in 0..steps {
        let total = layer.differentiate(products, loss, cases)?;
        layer.descend(rate);
        last = total.sum / total.rows as f64;
    }
    Ok((weights, last))
}

fn main() -> Result<(), Box<dyn Error>> {
    let backend = match env::args().nth(1) {
        Some(name) => Backend::by_name(&name).ok_or("this machine has no such backend")?,
        None => Backend::active(),
    };
    run(backend)
}

fn run(backend: Backend) -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    report(&mut text, &mut Memory::default(), backend, || None).map_err(|failure| match failure {
        Failure::Loss(error) => error.to_string(),
        Failure::Output(error) => error.to_string(),
    })?;
    print!("{backend}\n{text}");

    for problem in [Problem::breast_cancer(), Problem::wine()] {
        for (name, loss, rate) in problem.losses() {
            let loss = loss.backend(backend);
            let rows = loss.chunk_rows();
            let (_, mean) = train(&Matrices, &loss, (problem.classes, problem.training), (STEPS, rate), rows)?;
            println!("{}, {name}, products of matrices of {rows} rows or fewer: loss {mean}", problem.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rwwce::{Denominator, Reduction};
    use rwwce_last_layer::{CHUNK, Loops};

    use super::*;

    fn problems() -> [Problem; 2] {
        [Problem::breast_cancer(), Problem::wine()]
    }

    fn bits(numbers: &[f32]) -> Vec<u32> {
        numbers.iter().map(|x| x.to_bits()).collect()
    }

    /// Mean over the cases of −log p_y, or with costs of −log p_y − Σ_{j≠y} fp\[y,j\]·log(1 − p_j), in f64.
    fn textbook(problem: &Problem, with_costs: bool, weights: &[f64]) -> f64 {
        let Cases { width, features, labels } = problem.training;
        let of_case = |(x, &label): (&[f32], &u8)| {
            let logits = weights.chunks(width).map(|w| w.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>());
            let exponentials: Vec<f64> = logits.map(f64::exp).collect();
            let (sum, label) = (exponentials.iter().sum::<f64>(), usize::from(label));
            let others = (0..problem.classes).filter(|&j| with_costs && j != label);
            let cost = |j: usize| f64::from(problem.costs[label * problem.classes + j]);
            others.map(|j| -cost(j) * (1.0 - exponentials[j] / sum).ln()).sum::<f64>()
                - (exponentials[label] / sum).ln()
        };
        features.chunks(width).zip(labels).map(of_case).sum::<f64>() / labels.len() as f64
    }

    #[test]
    fn the_gradient_is_that_of_the_textbook() {
        for problem in problems() {
            for (with_costs, (_, loss, rate)) in problem.losses().into_iter().enumerate() {
                let data = (problem.classes, problem.training);
                let (mut weights, _) = train(&Loops, &loss, data, (STEPS, rate), CHUNK).unwrap();
                let (mut gradient, mut logits) = (weights.clone(), vec![0.0; problem.classes * CHUNK]);
                let mut layer = Layer { weights: &mut weights, gradient: &mut gradient, logits: &mut logits };
                let total = layer.differentiate(&Loops, &loss, problem.training).unwrap();
                let wide: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
                let at = |index: usize, step: f64| {
                    let mut moved = wide.clone();
                    moved[index] += step;
                    textbook(&problem, with_costs == 1, &moved)
                };
                let mean = total.sum / total.rows as f64;
                assert!((mean / at(0, 0.0) - 1.0).abs() < 1e-5, "{}", problem.name);
                for (index, &found) in gradient.iter().enumerate() {
                    let expected = (at(index, 1e-5) - at(index, -1e-5)) / 2e-5;
                    assert!((f64::from(found) - expected).abs() < 2e-6, "{}: {found}, {expected}", problem.name);
                }
            }
        }
    }

    #[test]
    fn chunks_of_any_size_give_the_weights_of_one_call() {
        for problem in problems() {
            for (_, loss, rate) in problem.losses() {
                for backend in Backend::available() {
                    let loss = loss.backend(backend);
                    let data = (problem.classes, problem.training);
                    // One chunk of all rows.
                    let whole = train(&Loops, &loss, data, (9, rate), data.1.labels.len()).unwrap().0;
                    for rows in [1, 5, CHUNK] {
                        let (found, _) = train(&Loops, &loss, data, (9, rate), rows).unwrap();
                        assert_eq!(bits(&found), bits(&whole), "{}, {backend}, {rows} rows", problem.name);
                    }
                }
            }
        }
    }

    #[test]
    fn a_chunk_has_its_rows_of_the_whole_gradient() {
        let problem = Problem::wine();
        let (_, loss, _) = problem.losses()[1];
        let labels = problem.training.labels;
        let logits: Vec<f32> = (0..3 * labels.len()).map(|i| (i * i % 101) as f32 / 20.0).collect();
        let mut whole = logits.clone();
        loss.reduction(Reduction::Mean(Denominator::Rows)).gradient_in_place(&mut whole, labels, 1.0).unwrap();
        let denominator = loss.weigh(labels).unwrap().denominator(Reduction::Mean(Denominator::Rows));
        let mut chunks = logits;
        for (logits, labels) in chunks.chunks_mut(3 * 7).zip(labels.chunks(7)) {
            loss.denominator(denominator).gradient_in_place(logits, labels, 1.0).unwrap();
        }
        assert_eq!(bits(&chunks), bits(&whole));
    }

    #[test]
    fn products_of_matrices_train_the_same_layer_but_for_rounding() {
        for problem in problems() {
            for (_, loss, rate) in problem.losses() {
                let data = (problem.classes, problem.training);
                let (by_loops, _) = train(&Loops, &loss, data, (STEPS, rate), CHUNK).unwrap();
                for rows in [50, loss.chunk_rows()] {
                    let (by_matrices, _) = train(&Matrices, &loss, data, (STEPS, rate), rows).unwrap();
                    by_loops.iter().zip(by_matrices).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a}, {b}"));
                }
            }
        }
    }

    #[test]
    fn backends_of_a_class_train_the_same_bits() {
        let of = |backend: Backend| {
            let mut text = String::new();
            report(&mut text, &mut Memory::default(), backend, || None).unwrap();
            text
        };
        let names: Vec<&str> = Backend::available().map(|backend| backend.name()).collect();
        println!("backends: {}", names.join(" "));
        assert!(names.contains(&"scalar-fma"), "a microcontroller could not be reproduced");
        for (a, b) in Backend::available().flat_map(|a| Backend::available().map(move |b| (a, b))) {
            if a.has_same_bits_as(b) {
                assert_eq!(of(a), of(b), "{a}, {b}");
            }
        }
    }

    #[test]
    fn costs_lower_what_the_most_probable_class_costs() {
        for problem in problems() {
            let any = CrossEntropy::new(problem.classes);
            let [plain, with_costs] = problem.losses().map(|(_, loss, rate)| {
                let mut memory = Memory::default();
                let mut layer = memory.layer(&problem);
                for _ in 0..STEPS {
                    layer.differentiate(&Loops, &loss, problem.training).unwrap();
                    layer.descend(rate);
                }
                layer.cost(&Loops, &any, problem.training, problem.costs).unwrap()
            });
            assert!(with_costs < 0.7 * plain, "{}: {with_costs}, and {plain} without costs", problem.name);
        }
    }

    #[test]
    fn the_program_runs() {
        run(Backend::active()).unwrap();
    }
}
