//! Class weights from the label counts of a data set.

use crate::error::check_length;
use crate::error::{Argument, Error};
use crate::label::{Label, Labels};
use crate::rows::class_of;

/// Counts the labels of each class into `counts`, `[C]`, and returns the number of labels other than `ignore_index`.
///
/// # Errors
///
/// [`Error::NoClasses`] for an empty `counts`, [`Error::LabelOutOfRange`]; `counts` is then unchanged.
///
/// ```
/// let mut counts = [0; 3];
/// assert_eq!(rwwce::count_labels(&[0u8, 2, 2, 255], Some(255), &mut counts)?, 3);
/// assert_eq!(counts, [1, 0, 2]);
/// # Ok::<(), rwwce::Error>(())
/// ```
pub fn count_labels<L: Label>(labels: &[L], ignore_index: Option<i64>, counts: &mut [u64]) -> Result<u64, Error> {
    count(L::labels(labels), ignore_index, counts)
}

fn count(labels: Labels<'_>, ignore_index: Option<i64>, counts: &mut [u64]) -> Result<u64, Error> {
    let classes = counts.len();
    if classes == 0 {
        return Err(Error::NoClasses);
    }
    let rows = || (0..labels.len()).filter_map(|row| labels.get(row).map(|label| (row, label)));
    let counted = || rows().filter(|&(_, label)| Some(label) != ignore_index);
    for (row, label) in counted() {
        class_of(label, classes).ok_or(Error::LabelOutOfRange { row, label, classes })?;
    }
    counts.fill(0);
    for (_, label) in counted() {
        if let Some(count) = class_of(label, classes).and_then(|class| counts.get_mut(class)) {
            *count = count.saturating_add(1);
        }
    }
    Ok(counts.iter().sum())
}

/// Formulas of class weights from the number of samples n_c of each class, with n = Σ n_c and C classes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Scheme {
    /// n / n_c: the inverse of the frequency n_c / n.
    InverseFrequency,
    /// n / (C·n_c): scikit-learn's `class_weight="balanced"`. C includes classes without samples.
    Balanced,
    /// (1 − β) / (1 − β^n_c): the effective number of samples (Cui, Jia, Lin, Song & Belongie, "Class-Balanced Loss
    /// Based on Effective Number of Samples", CVPR 2019).
    EffectiveNumber {
        /// β in [0, 1): 0 gives every class the weight 1, towards 1 the weight becomes 1/n_c.
        beta: f64,
    },
    /// √(n / n_c): between equal weights and the inverse frequency.
    InverseSquareRoot,
    /// median(n_1 … n_C) / n_c over the classes that have samples (Eigen & Fergus, "Predicting Depth, Surface Normals
    /// and Semantic Labels", ICCV 2015, whose frequencies are per image).
    MedianFrequency,
}

/// Scaling of class weights: none, to sum 1 or to mean 1. A mean over the weight sum does not depend on the scale; a
/// sum, a mean over rows and the size of their gradients do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Normalisation {
    /// As the formula of the scheme gives them.
    #[default]
    None,
    /// The weights of the classes with samples add up to 1.
    Sum,
    /// The weights of the classes with samples have the mean 1.
    Mean,
}

/// Weight of a class without samples, for which the formulas have no finite value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum EmptyClass {
    /// [`Error::EmptyClass`], which names the class.
    #[default]
    Error,
    /// This finite weight, which is not normalised.
    Weight(f32),
}

/// Computes class weights from the number of samples of each class, by a [`Scheme`] and a [`Normalisation`].
///
/// Computed in f64 and rounded once; every weight is finite and positive (or the one chosen for empty classes).
///
/// ```
/// use rwwce::{ClassWeights, Scheme, count_labels};
///
/// let labels = [0u8, 0, 0, 1];
/// let (mut counts, mut weights) = ([0; 2], [0.0; 2]);
/// count_labels(&labels, None, &mut counts)?;
/// ClassWeights::new(Scheme::Balanced).from_counts(&counts, &mut weights)?;
/// assert_eq!(weights, [2.0 / 3.0, 2.0]);
/// # Ok::<(), rwwce::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct ClassWeights {
    scheme: Scheme,
    normalisation: Normalisation,
    empty_class: EmptyClass,
}

impl ClassWeights {
    /// Class weights by `scheme`, not normalised; a class without samples is an error.
    pub const fn new(scheme: Scheme) -> Self {
        Self { scheme, normalisation: Normalisation::None, empty_class: EmptyClass::Error }
    }

    /// Sets the scaling of the weights.
    pub const fn normalisation(mut self, normalisation: Normalisation) -> Self {
        self.normalisation = normalisation;
        self
    }

    /// Sets the weight of classes without samples.
    pub const fn empty_class(mut self, empty_class: EmptyClass) -> Self {
        self.empty_class = empty_class;
        self
    }

    /// Writes the weight of each class to `weights`, `[C]`, given the number of samples of each class, `counts`, `[C]`.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`], [`Error::Length`], [`Error::OutOfRange`] for `beta`, [`Error::NotFinite`] for the weight
    /// of empty classes, [`Error::EmptyClass`]; `weights` is then unchanged.
    pub fn from_counts(&self, counts: &[u64], weights: &mut [f32]) -> Result<(), Error> {
        if counts.is_empty() {
            return Err(Error::NoClasses);
        }
        check_length(Argument::ClassWeights, counts.len(), weights.len())?;
        if let Scheme::EffectiveNumber { beta } = self.scheme
            && !(0.0..1.0).contains(&beta)
        {
            return Err(Error::OutOfRange { argument: Argument::Beta });
        }
        let for_empty = match self.empty_class {
            EmptyClass::Weight(weight) if !weight.is_finite() => {
                return Err(Error::NotFinite { argument: Argument::EmptyClassWeight, index: 0 });
            }
            EmptyClass::Weight(weight) => weight,
            EmptyClass::Error => match counts.iter().position(|&count| count == 0) {
                Some(class) => return Err(Error::EmptyClass { class }),
                None => 0.0,
            },
        };
        let weigh = self.weigher(counts);
        let with_samples = || counts.iter().filter(|&&count| count > 0);
        let sum: f64 = with_samples().map(|&count| weigh(count)).sum();
        let factor = match self.normalisation {
            Normalisation::None => 1.0,
            Normalisation::Sum => 1.0 / sum,
            Normalisation::Mean => with_samples().count() as f64 / sum,
        };
        for (weight, &count) in weights.iter_mut().zip(counts) {
            *weight = if count == 0 { for_empty } else { (weigh(count) * factor) as f32 };
        }
        Ok(())
    }

    /// Weight as a function of the number of samples of a class, which is at least 1.
    fn weigher(&self, counts: &[u64]) -> impl Fn(u64) -> f64 + use<> {
        let scheme = self.scheme;
        let n: f64 = counts.iter().map(|&count| count as f64).sum();
        let classes = counts.len() as f64;
        let median = if scheme == Scheme::MedianFrequency { median_of_positive(counts) } else { 0.0 };
        move |count| {
            let count = count as f64;
            match scheme {
                Scheme::InverseFrequency => n / count,
                Scheme::Balanced => n / (classes * count),
                // 1 − βⁿ by expm1: no catastrophic cancellation for β near 1.
                Scheme::EffectiveNumber { beta } => (1.0 - beta) / -libm::expm1(count * libm::log(beta)),
                Scheme::InverseSquareRoot => libm::sqrt(n / count),
                Scheme::MedianFrequency => median / count,
            }
        }
    }
}

/// Median of the counts above zero, the mean of the middle two for an even number of them; 0 if there are none.
fn median_of_positive(counts: &[u64]) -> f64 {
    let positive = counts.iter().filter(|&&count| count > 0).count();
    if positive == 0 {
        return 0.0;
    }
    // Order statistic of this 0-based rank, by bisection over the values of u64: sorting would need memory.
    let of_rank = |rank: usize| {
        let (mut low, mut high) = (1, u64::MAX);
        while low < high {
            let middle = u64::midpoint(low, high);
            let not_above = counts.iter().filter(|&&count| count > 0 && count <= middle).count();
            if not_above > rank { high = middle } else { low = middle.saturating_add(1) }
        }
        low as f64
    };
    (of_rank(positive.saturating_sub(1) / 2) + of_rank(positive / 2)) / 2.0
}
