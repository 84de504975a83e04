//! Decisions: the class of least expected cost of each row.

use crate::cross_entropy::CrossEntropy;
use crate::error::{Argument, Error, check_cost, check_length};
use crate::kernel::decide::DecisionRows;
use crate::kernel::tile::Batch;
use crate::logits::Logits;
use crate::reduction::GradientScale;
use crate::rows::Targets;

impl CrossEntropy<'_> {
    /// Writes the class of least expected cost of each row to `decisions`, `[N, D]`, and returns how many rows have
    /// none.
    ///
    /// Expected costs of the decisions go to `expected_costs`, `[N, D]`, if given. With p = softmax(x) a decision is
    ///
    /// argmin_j Σ_{y≠j} p_y·(fn\[y\] + fp\[y,j\]),
    ///
    /// where the miss costs fn are the [class weights](Self::class_weights), ≥ 0, each 1 when absent, and fp the
    /// [mislabel costs](Self::mislabel_costs), each 0 when absent (Elkan, "The Foundations of Cost-Sensitive Learning",
    /// IJCAI 2001). If the probabilities are right, the decision minimises the mean
    /// [`decision_cost`](crate::decision_cost).
    ///
    /// For two classes this is a threshold: the decision is 1 where p_1 > cost\[0,1\]/(cost\[0,1\] + cost\[1,0\]),
    /// cost\[y,j\] = fn\[y\] + fp\[y,j\]. Without costs the decision is the argmax of the logits, the lowest index in a
    /// tie, as in [`CrossEntropy::add_confusion`], and its expected cost 1 − p.
    ///
    /// Of the options only the shape, the costs, the temperature, the class bias and the backend matter; sample weights
    /// and terms of the loss are checked all the same. Mislabel costs take C² multiplications per row, miss costs alone
    /// take C.
    ///
    /// # Rows without a decision
    ///
    /// Rows with a NaN, with several +∞ or with all logits −∞ have no probabilities. They get
    /// [`NO_DECISION`](crate::NO_DECISION) and an expected cost of NaN, and their number is returned. A logit of −∞ has
    /// probability 0, a single +∞ probability 1.
    ///
    /// # Accuracy
    ///
    /// Where two expected costs differ by more than 4 ulp, the class of the lower one is chosen; where they are equal
    /// as computed, the lower index. Sums are in f64, in class order, so costs that are equal only in exact arithmetic
    /// may differ by rounding, and either class be chosen; every backend returns the same bits. An expected cost is off
    /// by at most 1 ulp; above the largest f32 it is +∞, which changes no decision. Probabilities below e⁻⁷⁰⁰ times the
    /// largest count as 0, and products of a probability and a cost below 1e-300 may.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`], [`Error::SizeOverflow`], also for more than `u32::MAX` classes, [`Error::Length`],
    /// [`Error::NotFinite`] for costs, sample weights and bias, [`Error::Negative`] for costs, [`Error::CostOfTruth`],
    /// [`Error::OutOfRange`] for a scalar option.
    ///
    /// ```
    /// # use rwwce::CrossEntropy;
    /// // Class 1 is unlikely, but missing it costs 20 false alarms.
    /// let loss = CrossEntropy::new(2).class_weights(&[1.0, 20.0]);
    /// let (mut decisions, mut costs) = ([0; 2], [0.0; 2]);
    /// loss.decide(&[2.0, 0.0, 4.0, 0.0], &mut decisions, Some(&mut costs))?;
    /// assert_eq!(decisions, [1, 0]);
    /// assert_eq!(costs, [0.880_797_1, 0.359_724_2]);
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn decide<'l>(
        &self,
        logits: impl Into<Logits<'l>>,
        decisions: &mut [u32],
        expected_costs: Option<&mut [f32]>,
    ) -> Result<usize, Error> {
        self.decide_rows(Argument::Logits, logits.into(), decisions, expected_costs)
    }

    /// [`CrossEntropy::decide`] from given probabilities `[N, C, D]` instead of logits.
    ///
    /// Rows need not sum to 1: the decision does not depend on the sum, and the expected cost is not normalised. A row
    /// with a probability that is NaN, negative or infinite has no decision.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::decide`], and [`Error::Incompatible`] for options that need logits.
    ///
    /// ```
    /// # use rwwce::CrossEntropy;
    /// let mut decisions = [0; 2];
    /// let loss = CrossEntropy::new(3).class_weights(&[1.0, 1.0, 9.0]);
    /// let undecided = loss.decide_from_probabilities(&[0.5, 0.4, 0.1, 0.5, f32::NAN, 0.1], &mut decisions, None)?;
    /// assert_eq!((undecided, decisions), (1, [2, rwwce::NO_DECISION]));
    /// # Ok::<(), rwwce::Error>(())
    /// ```
    pub fn decide_from_probabilities(
        &self,
        probabilities: &[f32],
        decisions: &mut [u32],
        expected_costs: Option<&mut [f32]>,
    ) -> Result<usize, Error> {
        self.decide_rows(Argument::Probabilities, Logits::F32(probabilities), decisions, expected_costs)
    }

    fn decide_rows(
        &self,
        argument: Argument,
        numbers: Logits<'_>,
        decisions: &mut [u32],
        expected_costs: Option<&mut [f32]>,
    ) -> Result<usize, Error> {
        numbers.check()?;
        let (rows, _) = self.check(argument, numbers.len(), Targets::None)?;
        let classes = rows.classes();
        // Class indices must fit the u32 of a decision.
        if classes as u64 > u64::from(u32::MAX) {
            return Err(Error::SizeOverflow { rows: rows.count(), row_stride: classes });
        }
        check_cost(Argument::ClassWeights, rows.class_weights().unwrap_or(&[]))?;
        check_length(Argument::Decisions, rows.count(), decisions.len())?;
        if let Some(out) = &expected_costs {
            check_length(Argument::ExpectedCosts, rows.count(), out.len())?;
        }
        let (adjustment, scale) = (self.adjustment(), GradientScale::Same(0.0));
        let batch = Batch { rows: &rows, logits: Some(numbers), adjustment, gradient: None, scale };
        let (given, costs) = (argument == Argument::Probabilities, self.costs());
        Ok(self.chosen_backend().drive(DecisionRows { batch, given, costs, decisions, expected_costs }))
    }
}
