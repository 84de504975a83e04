//! Decisions from any logits, and from any values as probabilities: no other class costs less, and all backends return
//! the same bits.

use crate::backends;
use crate::batch::{Batch, Content};
use crate::common::bits;
use crate::costs::{Costs, softmax};
use crate::options::Options;
use arbitrary::{Result, Unstructured};
use rwwce::NO_DECISION;

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let content = Content {
        mostly_finite: false,
        negative_weights: false,
        ignored: false,
        moderate_weights: false,
        no_tiny_weights: false,
        most_classes: 600,
    };
    let batch = Batch::new(u, content)?;
    let options = if u.arbitrary()? { Options::mild(u, &batch)? } else { Options::new(u, &batch)? };
    let given = u.arbitrary::<bool>()?;
    let costs = Costs { miss: batch.class_weights.clone(), mislabel: options.costs.clone() };
    let case = (given, &batch, &options);
    let mut first = None;
    for backend in backends(u)? {
        let (mut decisions, mut expected) = (vec![7; batch.rows()], vec![7.0; batch.rows()]);
        let plain = batch.loss().backend(backend);
        let undecided = if given {
            costs.of(plain).decide_from_probabilities(&batch.logits, &mut decisions, Some(&mut expected))
        } else {
            // Options that concern labels have no effect.
            options.of_labels(options.adjust(plain)).decide(&batch.logits, &mut decisions, Some(&mut expected))
        };
        let none = decisions.iter().filter(|&&class| class == NO_DECISION).count();
        assert_eq!(undecided, Ok(none), "{backend}\n{case:?}");
        let found = (decisions, bits(&expected));
        assert_eq!(&found, first.get_or_insert_with(|| found.clone()), "{backend}\n{case:?}");
    }
    let (decisions, expected) = first.unwrap_or_default();
    for (row, (&class, cost)) in decisions.iter().zip(expected).enumerate() {
        let numbers = batch.row(&batch.logits, row);
        let is_probability = |&p: &f32| (0.0..f32::INFINITY).contains(&p);
        let p = match given {
            true => numbers.iter().all(is_probability).then(|| numbers.iter().map(|&p| f64::from(p)).collect()),
            false => softmax(&options.adjusted(&numbers)),
        };
        let checked = costs.check(p.as_deref(), class, f32::from_bits(cost));
        assert!(checked.is_ok(), "row {row}: {checked:?}\n{case:?}");
    }
    Ok(())
}
