//! What to say of each row: the class of least expected cost.

use crate::cross_entropy::CrossEntropy;
use crate::error::{Argument, Error, check_cost, check_length};
use crate::kernel::decide::DecisionRows;
use crate::kernel::tile::Batch;
use crate::logits::Logits;
use crate::reduction::GradientScale;
use crate::rows::Targets;

impl CrossEntropy<'_> {
    /// The class of least expected cost of each row into `decisions`, `[N, D]`, and that cost into `expected_costs`, `[N, D]`,
    /// if it is wanted: with p = softmax(x)
    ///
    /// argmin_j Σ_{y≠j} p_y·(fn\[y\] + fp\[y,j\]),
    ///
    /// where the miss costs fn are the [class weights](Self::class_weights), each 1 when absent, and fp the
    /// [mislabel costs](Self::mislabel_costs), each 0 when absent (Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI
    /// 2001). It is the decision that [`decision_cost`](crate::decision_cost) charges least for, if the probabilities are right.
    ///
    /// Two classes give a threshold: 1 is said where p_1 > cost\[0,1\]/(cost\[0,1\] + cost\[1,0\]), cost\[y,j\] = fn\[y\] +
    /// fp\[y,j\]. Without costs the decision is the class of the largest logit, the first of equals, as
    /// [`CrossEntropy::add_confusion`] has it, and its expected cost 1 − p.
    ///
    /// Of the options only the shape, the costs, the temperature and the class bias matter. A matrix takes C² multiplications a
    /// row, miss costs alone take C.
    ///
    /// # Rows without a decision
    ///
    /// get [`NO_DECISION`](crate::NO_DECISION) and an expected cost of NaN; their number is returned. They are the rows without
    /// probabilities: those with a NaN, with several +∞, or with −∞ throughout. A logit of −∞ is a class that is not, one that
    /// alone is +∞ a class that is.
    ///
    /// # Accuracy
    ///
    /// Where two expected costs differ by more than 4 ulp, the lesser one is said; the class of the lower index where they are
    /// equal. Sums are in f64, and no backend returns other bits than another. An expected cost is off by at most 1 ulp; above the
    /// largest f32 it is +∞, which changes no decision. Probabilities below e⁻⁷⁰⁰ of the largest count as 0, and so may products
    /// of a probability and a cost below 1e-300.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`], [`Error::SizeOverflow`], [`Error::Length`], [`Error::NotFinite`] and [`Error::Negative`] for costs,
    /// [`Error::CostOfTruth`], [`Error::OutOfRange`].
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

    /// [`CrossEntropy::decide`] from probabilities `[N, C, D]` that somebody else has computed.
    ///
    /// Nothing requires a row to sum to 1: the decision does not depend on it, and the expected cost is the sum as the formula
    /// has it. A row with a probability that is NaN, negative or infinite has no decision.
    ///
    /// # Errors
    ///
    /// As [`CrossEntropy::decide`], and [`Error::Incompatible`] for options that are about logits.
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
        // A decision is a u32.
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
