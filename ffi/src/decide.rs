//! What to say of each row.

use core::ffi::c_void;

use crate::arrays::Arrays;
use crate::options::{Loss, rwwce_options};
use crate::status::*;

/// The class of least expected cost of each row into `decisions`, `[N, D]`, and that cost into `expected_costs`, `[N, D]`, which
/// may be NULL: argmin_j Σ_{y≠j} p_y·(fn[y] + fp[y,j]), where the miss costs fn are the class weights, each 1 when absent, at least
/// 0 here, and fp the mislabel costs, each 0 when absent. Without costs it is the class of the largest logit; ties go to the
/// lowest index. Two expected costs that differ by more than 4 ulp are told apart.
///
/// A row with a NaN, with several +∞, or with −∞ throughout has no decision: it gets `RWWCE_NO_DECISION` and an expected cost of
/// NaN, and `undecided`, which may be NULL, receives the number of such rows.
///
/// Of the options only the shape, the costs, the type of the logits, the temperature, the class bias and the backend matter.
/// Every error leaves all outputs as they were; they must not overlap any other array.
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

/// `rwwce_decide` from *probabilities* `[N, C, D]` that somebody else has computed, which need not sum to 1. A row with one that
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
