//! Logits as arrays and views of ndarray. Those in standard (row-major) layout are read in place. Transposed views and
//! parts of wider rows need no copy either, with `positions` and `row_stride` of the loss; other views are copied.
//!
//! `cargo run --bin ndarray`

use std::borrow::Cow;

use ndarray::{Array, Array2, ArrayView, Dimension, array, s};
use rwwce::{CrossEntropy, Error, Summary};

/// Elements in row-major order; only views in another layout are copied.
fn elements<'a, T: Clone, D: Dimension>(view: ArrayView<'a, T, D>) -> Cow<'a, [T]> {
    view.to_slice().map_or_else(|| view.iter().cloned().collect(), Cow::Borrowed)
}

/// Loss of logits `[N, C]` or, with `positions` D, `[N, C, D]`, and its gradient in the same shape.
fn gradient<D: Dimension, E: Dimension>(
    loss: &CrossEntropy<'_>,
    logits: ArrayView<'_, f32, D>,
    labels: ArrayView<'_, i64, E>,
) -> Result<(Summary, Array<f32, D>), Error> {
    let mut gradient = Array::zeros(logits.raw_dim());
    let out = gradient.as_slice_mut().expect("zeros are made in order");
    let summary = loss.gradient(&*elements(logits), &elements(labels), 1.0, out)?;
    Ok((summary, gradient))
}

fn main() -> Result<(), Error> {
    let logits = array![[2.0, -1.0, 0.5], [0.3, 0.1, 0.0], [-1.0, 1.5, 3.0]];
    let labels = array![0, 1, 2];
    let loss = CrossEntropy::new(logits.ncols()).class_weights(&[1.0, 1.0, 20.0]);
    let (summary, of_logits) = gradient(&loss, logits.view(), labels.view())?;
    println!("loss {} with the gradient\n{of_logits}", summary.loss);

    // A range of whole rows is contiguous, and not copied; losses are written to an array in place.
    let mut row_losses = Array::zeros(2);
    let last = elements(logits.slice(s![1.., ..]));
    loss.row_losses(
        &*last,
        &elements(labels.slice(s![1..])),
        row_losses.as_slice_mut().expect("zeros are made in order"),
    )?;
    println!("of the last two rows {row_losses}");

    // The first columns of wider rows: the whole array, with a row stride.
    let wide: Array2<f32> = array![[2.0, -1.0, 0.5, 77.0], [0.3, 0.1, 0.0, 77.0], [-1.0, 1.5, 3.0, 77.0]];
    let of_wide = loss.row_stride(wide.ncols()).loss(&*elements(wide.view()), &elements(labels.view()))?;
    println!("{} of rows that are padded", of_wide.loss);

    // Column-major logits, [C, N], are one sample of N positions.
    let by_class = logits.t().as_standard_layout().into_owned();
    let of_classes = loss.positions(by_class.ncols()).loss(&*elements(by_class.view()), &elements(labels.view()))?;
    println!("{} of logits that lie class by class", of_classes.loss);
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Axis};
    use rwwce::Argument;
    use rwwce_neighbours::{differences, textbook};

    use super::*;

    const WEIGHTS: [f32; 4] = [1.0, 0.5, 3.0, 2.0];

    fn logits() -> Array2<f32> {
        Array2::from_shape_fn((6, 4), |(n, c)| ((7 * n + 5 * c) % 11) as f32 / 3.0 - 1.5)
    }

    fn labels() -> Array<i64, ndarray::Ix1> {
        array![0, 3, 2, 1, 0, 2]
    }

    fn loss() -> CrossEntropy<'static> {
        CrossEntropy::new(4).class_weights(&WEIGHTS)
    }

    /// Loss and gradient of row-major logits, in f64.
    fn expected(logits: &Array2<f32>, labels: &[i64]) -> (f64, Vec<f64>) {
        let logits: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
        let weight: f64 = labels.iter().map(|&label| f64::from(WEIGHTS[label as usize])).sum();
        let gradient = differences(&logits, &labels, &WEIGHTS, None);
        (textbook(&logits, &labels, &WEIGHTS, None) / weight, gradient.iter().map(|g| g / weight).collect())
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_textbook() {
        let (summary, of_logits) = gradient(&loss(), logits().view(), labels().view()).unwrap();
        let (expected, of_textbook) = expected(&logits(), labels().as_slice().unwrap());
        assert!((f64::from(summary.loss) - expected).abs() < 1e-6);
        of_logits.iter().zip(of_textbook).for_each(|(&g, expected)| assert!((f64::from(g) - expected).abs() < 1e-6));
    }

    #[test]
    fn only_what_lies_otherwise_is_copied() {
        let (logits, borrowed) = (logits(), |rows: Cow<'_, [f32]>| matches!(rows, Cow::Borrowed(_)));
        assert!(borrowed(elements(logits.view())));
        assert!(borrowed(elements(logits.slice(s![2..5, ..]))));
        assert!(!borrowed(elements(logits.t())));
        assert!(!borrowed(elements(logits.slice(s![.., ..2]))));
        assert!(!borrowed(elements(logits.slice(s![..;2, ..]))));
        assert_eq!(
            *elements(logits.slice(s![..;-2, 1..3])),
            [5, 3, 1].map(|n| [logits[[n, 1]], logits[[n, 2]]]).concat()
        );
    }

    #[test]
    fn a_view_of_any_layout_has_the_bits_of_rows_in_order() {
        let (logits, labels) = (logits(), labels());
        let (summary, of_logits) = gradient(&loss(), logits.view(), labels.view()).unwrap();
        // A transposed view of column-major memory.
        let by_class = logits.t().as_standard_layout().into_owned();
        assert_eq!(gradient(&loss(), by_class.t(), labels.view()), Ok((summary, of_logits.clone())));
        // Rows reversed.
        let (backwards, of_backwards) =
            gradient(&loss(), logits.slice(s![..;-1, ..]), labels.slice(s![..;-1])).unwrap();
        assert_eq!(of_backwards.slice(s![..;-1, ..]), of_logits);
        assert_eq!(backwards.denominator, summary.denominator);
        // The first columns of wider rows, without a copy.
        let mut wide = Array2::from_elem((6, 5), f32::NAN);
        wide.slice_mut(s![.., ..4]).assign(&logits);
        let of_wide = loss().row_stride(5).loss(&*elements(wide.view()), &elements(labels.view())).unwrap();
        assert_eq!(of_wide, summary);
        // Column-major logits without a copy, as one sample of positions.
        let (_, of_classes) = gradient(&loss().positions(6), by_class.view(), labels.view()).unwrap();
        of_classes.t().iter().zip(&of_logits).for_each(|(a, b)| assert!((a - b).abs() < 1e-7));
    }

    #[test]
    fn images_are_samples_classes_and_positions() {
        let (samples, positions) = (3, 2);
        let (rows, labels) = (logits(), labels());
        let images =
            rows.to_shape((samples, positions, 4)).unwrap().permuted_axes([0, 2, 1]).as_standard_layout().into_owned();
        let labels_of_images = labels.to_shape((samples, positions)).unwrap();
        let loss_of_images = loss().positions(positions);
        let (summary, of_images): (Summary, Array3<f32>) =
            gradient(&loss_of_images, images.view(), labels_of_images.view()).unwrap();
        let (of_rows, expected) = gradient(&loss(), rows.view(), labels.view()).unwrap();
        assert!((summary.loss - of_rows.loss).abs() < 1e-6);
        for (n, image) in of_images.axis_iter(Axis(0)).enumerate() {
            for (d, row) in image.axis_iter(Axis(1)).enumerate() {
                row.iter().zip(expected.row(n * positions + d)).for_each(|(a, b)| assert!((a - b).abs() < 1e-7));
            }
        }
        // Images with the classes last, [N, D, C], are plain rows.
        let last = rows.to_shape((samples, positions, 4)).unwrap();
        assert_eq!(gradient(&loss(), last.view(), labels_of_images.view()).unwrap().0, of_rows);
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let wrong = gradient(&loss(), logits().view(), labels().slice(s![1..]));
        assert_eq!(wrong.unwrap_err(), Error::Length { argument: Argument::Logits, expected: 20, found: 24 });
    }

    #[test]
    fn the_program_runs() {
        main().unwrap();
    }
}
