//! Monitoring of a model in use: loss of each class, confusion matrix, cost of decisions.

use crate::cross_entropy::CrossEntropy;
use crate::error::{Argument, Error, check_cost, check_length, square};
use crate::kernel::{chunks, row_of_mut};
use crate::label::{Label, Labels};
use crate::logits::Logits;
use crate::rows::{Shape, Targets};

/// Sums of rows, weights and losses of each class, `[C]` each, for [`CrossEntropy::add_class_sums`].
#[derive(Debug)]
pub struct ClassSums<'a> {
    /// The number of rows of each class that count.
    pub counts: &'a mut [u64],
    /// Σ w\[y\]·s over the rows of each class that count.
    pub weights: &'a mut [f64],
    /// The sum of the losses of these rows.
    pub losses: &'a mut [f64],
}

impl CrossEntropy<'_> {
    /// Adds number, weights w\[y\]·s and losses of rows to the sums of their classes. `row_losses`, `[N, D]`, are those
    /// that [`CrossEntropy::row_losses`] writes. To be called batch by batch; the caller sets the sums to zero first.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`], [`Error::SizeOverflow`], [`Error::Length`], [`Error::LabelOutOfRange`],
    /// [`Error::NotFinite`] for weights; the sums are then unchanged.
    ///
    /// ```
    /// use rwwce::{ClassSums, CrossEntropy};
    ///
    /// let loss = CrossEntropy::new(2);
    /// let (mut counts, mut weights, mut losses) = ([0; 2], [0.0; 2], [0.0; 2]);
    /// let (labels, mut rows) = ([0u8, 1, 1], [0.0; 3]);
    /// loss.row_losses(&[0.0, 0.0, 5.0, 0.0, 0.0, 5.0], &labels, &mut rows)?;
    /// let sums = ClassSums { counts: &mut counts, weights: &mut weights, losses: &mut losses };
    /// loss.add_class_sums(&labels, &rows, sums)?;
    /// assert_eq!(counts, [1, 2]);
    /// assert!(losses[1] / f64::from(counts[1] as u32) > 2.5);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn add_class_sums<L: Label>(&self, labels: &[L], row_losses: &[f32], sums: ClassSums<'_>) -> Result<(), Error> {
        self.add_sums_of_classes(L::labels(labels), row_losses, sums)
    }

    // Not generic over the type of the labels: compiled once.
    fn add_sums_of_classes(&self, labels: Labels<'_>, row_losses: &[f32], sums: ClassSums<'_>) -> Result<(), Error> {
        // Without logits neither their layout matters, nor whether the rows are whole samples.
        let shape = Shape { positions: 1, row_stride: None, ..self.shape };
        let (rows, _) = self.check_labels_and_weights(shape, labels.len(), Targets::Labels(labels))?;
        check_length(Argument::RowLosses, rows.count(), row_losses.len())?;
        let classes = rows.classes();
        check_length(Argument::Counts, classes, sums.counts.len())?;
        check_length(Argument::WeightSums, classes, sums.weights.len())?;
        check_length(Argument::LossSums, classes, sums.losses.len())?;
        for (row, &loss) in row_losses.iter().enumerate() {
            let Some(class) = rows.class(row) else { continue };
            let (count, weight) = (sums.counts.get_mut(class), sums.weights.get_mut(class));
            if let (Some(count), Some(weight), Some(sum)) = (count, weight, sums.losses.get_mut(class)) {
                *count = count.wrapping_add(1);
                *weight += f64::from(rows.weight(class)) * f64::from(rows.sample_weight(row));
                *sum += f64::from(loss);
            }
        }
        Ok(())
    }

    /// Adds the argmax decision of each row to a confusion matrix, `[C, C]`, row = truth, column = decision. The
    /// decision is the class of the largest logit (after temperature and bias), the lowest index in a tie. Rows that do
    /// not count are left out, as are rows with a NaN; the number of rows with a NaN is returned.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::loss`], and [`Error::Length`] for the matrix, which is then unchanged.
    ///
    /// ```
    /// use rwwce::{CrossEntropy, decision_cost};
    ///
    /// let mut confusion = [0; 4];
    /// CrossEntropy::new(2).add_confusion(&[3.0, 1.0, 3.0, 1.0, 0.0, 2.0], &[0u8, 1, 1], &mut confusion)?;
    /// assert_eq!(confusion, [1, 0, 1, 1]);
    /// // A case of class 1 that is missed costs 20.
    /// assert_eq!(decision_cost(&confusion, &[0.0, 20.0], &[0.0; 4])?, 20.0);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn add_confusion<'l, L: Label>(
        &self,
        logits: impl Into<Logits<'l>>,
        labels: &[L],
        confusion: &mut [u64],
    ) -> Result<usize, Error> {
        self.add_decisions(logits.into(), L::labels(labels), confusion)
    }

    fn add_decisions(&self, logits: Logits<'_>, labels: Labels<'_>, confusion: &mut [u64]) -> Result<usize, Error> {
        logits.check()?;
        let (rows, _) = self.check(Argument::Logits, logits.len(), Targets::Labels(labels))?;
        let classes = rows.classes();
        check_length(Argument::Confusion, square(classes)?, confusion.len())?;
        let adjustment = self.adjustment();
        let mut undecided = 0_usize;
        for row in 0..rows.count() {
            let Some(label) = rows.class(row) else { continue };
            let (mut best, mut largest, mut any_nan) = (0, f32::NEG_INFINITY, false);
            for class in 0..classes {
                let x = logits.get(rows.element(row, class)).map_or(f32::NAN, |x| adjustment.apply(x, class));
                any_nan |= x.is_nan();
                if x > largest {
                    (best, largest) = (class, x);
                }
            }
            if any_nan {
                undecided = undecided.saturating_add(1);
            } else if let Some(count) = row_of_mut(confusion, label, classes).get_mut(best) {
                *count = count.wrapping_add(1);
            }
        }
        Ok(undecided)
    }
}

/// Total cost of the decisions in a confusion matrix, `[C, C]`, from the costs of each kind of mistake.
///
/// The cost is Σ_{y≠j} n\[y,j\]·(fn\[y\] + fp\[y,j\]), with miss costs fn `[C]` and mislabel costs fp `[C, C]`: the
/// metric of the real-world-weight loss (Ho & Wookey, 2020). Correct decisions cost nothing.
///
/// # Errors
///
/// [`Error::NoClasses`], [`Error::SizeOverflow`], [`Error::Length`] for matrices that do not fit the miss costs,
/// [`Error::NotFinite`] and [`Error::Negative`] for costs.
pub fn decision_cost(confusion: &[u64], miss_costs: &[f32], mislabel_costs: &[f32]) -> Result<f64, Error> {
    let classes = miss_costs.len();
    if classes == 0 {
        return Err(Error::NoClasses);
    }
    let cells = square(classes)?;
    check_length(Argument::Confusion, cells, confusion.len())?;
    check_length(Argument::MislabelCosts, cells, mislabel_costs.len())?;
    check_cost(Argument::MissCosts, miss_costs)?;
    check_cost(Argument::MislabelCosts, mislabel_costs)?;
    let mut total = 0.0;
    let rows = chunks(confusion, classes).zip(chunks(mislabel_costs, classes)).zip(miss_costs);
    for (truth, ((counts, mislabel_costs), &miss)) in rows.enumerate() {
        for (named, (&count, &mislabel)) in counts.iter().zip(mislabel_costs).enumerate() {
            if truth != named {
                total += count as f64 * (f64::from(miss) + f64::from(mislabel));
            }
        }
    }
    Ok(total)
}
