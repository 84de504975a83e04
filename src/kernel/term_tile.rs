//! Rows of a tile and all that the ways to their losses with terms share; logits and targets of a part of them.

use super::from;
use super::spread::Spread;
use super::term_scalars::{TermBlock, Terms};
use super::tile::{Batch, Place, Tile};
use crate::backend::vector::Vector;
use crate::rows::Rows;

/// Rows that are computed at once, with labels and weights filled in.
pub(crate) struct TermTile<'t, 'a> {
    pub(crate) batch: &'t mut Batch<'a>,
    pub(crate) options: &'t Terms<'a>,
    pub(crate) spread: Option<Spread<'a>>,
    /// With the blocks of these rows and no others, as `terms`.
    pub(crate) tile: Tile<'t>,
    pub(crate) terms: &'t mut [TermBlock],
    pub(crate) place: Place,
}

/// The logits of some rows, with at least `reach` more elements: borrowed if dense, unadjusted f32 and followed by so many,
/// else copied to `loaded`.
pub(crate) fn logits<'t, S: Vector>(
    s: S,
    batch: &'t Batch<'_>,
    place: Place,
    reach: usize,
    loaded: &'t mut [f32],
) -> &'t [f32] {
    let (start, len) = place.in_dense(batch.rows, reach);
    match batch.as_tile().and_then(|logits| from(logits, start).get(..len)) {
        Some(logits) => logits,
        None => {
            batch.load_rows(s, place, loaded);
            loaded
        }
    }
}

/// [`logits`] for target probabilities.
pub(crate) fn targets<'t, S: Vector>(
    s: S,
    (batch, soft): (&Batch<'_>, &'t [f32]),
    place: Place,
    reach: usize,
    loaded: &'t mut [f32],
) -> &'t [f32] {
    let (start, len) = place.in_dense(batch.rows, reach);
    match from(soft, start).get(..len).filter(|_| batch.rows.are_dense()) {
        Some(targets) => targets,
        None => {
            batch.load_targets(s, soft, place, loaded);
            loaded
        }
    }
}

impl Place {
    /// Start and length of whole dense rows, or a part of one, with `reach` more elements.
    fn in_dense(self, rows: &Rows<'_>, reach: usize) -> (usize, usize) {
        (rows.element(self.first, self.start), self.rows.wrapping_mul(self.width).wrapping_add(reach))
    }
}
