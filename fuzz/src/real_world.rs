//! Labels with mislabel costs, label smoothing, focal factor, z-loss, class bias and temperature, in any combination.

use crate::batch::{Batch, Content};
use crate::combined;
use crate::options::Options;
use arbitrary::{Result, Unstructured};

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let content = Content {
        mostly_finite: true,
        negative_weights: false,
        ignored: true,
        moderate_weights: false,
        no_tiny_weights: true,
        most_classes: 150,
    };
    let batch = Batch::new(u, content)?;
    let options = Options::mild(u, &batch)?;
    combined::check(u, &batch, &options, None)
}
