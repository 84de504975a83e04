//! Decisions: the class of least expected cost of each row.

use core::ffi::c_void;

use crate::arrays::Arrays;
use crate::options::{Loss, rwwce_options};
use crate::status::*;

/// Writes the class of least expected cost of each row to `decisions`, `[N, D]`, and the expected cost of the
/// decision to `expected_costs`, `[N, D]`, which may be NULL: argmin_j Σ_{y≠j} p_y·(fn[y] + fp[y,j]), where the miss
/// costs fn are the class weights, each 1 when absent, at least 0 here, and fp the mislabel costs, each 0 when
/// absent. Without costs the decision is the argmax of the logits, the lowest index in a tie. Where two expected costs
/// differ by more than 4 ulp, the lower one decides; where they are equal as computed, the lowest index. Costs that are
/// equal only in exact arithmetic may differ by rounding.
///
/// A row with a NaN, with several +∞ or with all logits −∞ has no decision: `decisions` gets `RWWCE_NO_DECISION` and
/// `expected_costs` NaN. `undecided`, which may be NULL, receives the number of such rows.
///
/// Of the options only the shape, the costs, the type of the logits, the temperature, the class bias and the backend
/// matter; sample weights and terms of the loss are checked all the same. Every error leaves all outputs unchanged;
/// outputs must not overlap any other array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_decide(
    options: *const rwwce_options,
    logits: *const c_void,
    logits_count: usize,
    decisions: *mut u32,
    decisions_count: usize,
    expected_costs: *mut f32,
    expected_costs_count: usize,
    undecided: *mut usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let undecided = arrays.optional_place(undecided)?;
            let Loss { loss, logit_type, .. } = rwwce_options::read(options, arrays)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let decisions = arrays.output(RWWCE_ARGUMENT_DECISIONS, decisions, decisions_count)?;
            let costs = arrays.optional_output(RWWCE_ARGUMENT_EXPECTED_COSTS, expected_costs, expected_costs_count)?;
            undecided.write(loss.decide(logits, decisions, costs)?)
        })
    }
}

/// As `rwwce_decide`, from given *probabilities* `[N, C, D]`, which need not sum to 1. A row with a probability that
/// is NaN, negative or infinite has no decision.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_decide_from_probabilities(
    options: *const rwwce_options,
    probabilities: *const f32,
    probabilities_count: usize,
    decisions: *mut u32,
    decisions_count: usize,
    expected_costs: *mut f32,
    expected_costs_count: usize,
    undecided: *mut usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let undecided = arrays.optional_place(undecided)?;
            let Loss { loss, logit_type, .. } = rwwce_options::read(options, arrays)?;
            logit_type.float_alone(RWWCE_ARGUMENT_PROBABILITIES)?;
            let p = arrays.input(RWWCE_ARGUMENT_PROBABILITIES, probabilities, probabilities_count)?;
            let decisions = arrays.output(RWWCE_ARGUMENT_DECISIONS, decisions, decisions_count)?;
            let costs = arrays.optional_output(RWWCE_ARGUMENT_EXPECTED_COSTS, expected_costs, expected_costs_count)?;
            undecided.write(loss.decide_from_probabilities(p, decisions, costs)?)
        })
    }
}
