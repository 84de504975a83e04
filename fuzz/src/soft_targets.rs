//! Target probabilities, with the options that go with them.

use crate::batch::{Batch, Content};
use crate::combined;
use crate::options::Options;
use arbitrary::{Result, Unstructured};

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let content = Content {
        mostly_finite: true,
        negative_weights: true,
        ignored: false,
        moderate_weights: false,
        no_tiny_weights: true,
        most_classes: 300,
    };
    let batch = Batch::new(u, content)?;
    let mut options = Options::mild(u, &batch)?;
    (options.focal, options.costs) = (0.0, None);
    let soft = options.soft(&batch);
    combined::check(u, &batch, &options, Some(&soft))
}
