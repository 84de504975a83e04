//! The gradient of the losses with terms, from the exponentials of rows, u and the odds of mistakes.

use super::lanes::Lane;
use super::spread::U;
use super::term_scalars::TermBlock;
use super::tile::RowBlock;
use super::{part, part_mut, whole};
use crate::backend::vector::{Operation, Vector};
use core::slice::ChunksExact;

/// Writes the gradient of the rows that are not marked.
pub(crate) struct TermGradient<'a> {
    pub(crate) exponentials: &'a [f32],
    /// u, where there is a spread, and fp·e/(1 − p), where there are costs.
    pub(crate) u: Option<U<'a>>,
    pub(crate) odds: Option<&'a [f32]>,
    pub(crate) to: &'a mut [f32],
    pub(crate) classes: usize,
    pub(crate) blocks: &'a [RowBlock],
    pub(crate) terms: &'a [TermBlock],
}

impl Operation for TermGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { exponentials, u, odds, to, classes, blocks, terms } = self;
        // Vectors reach over the end of a row into the next, which follows.
        let overlap = blocks.iter().all(|block| block.general == 0);
        let (mut start, reach, end) = (0, classes.next_multiple_of(S::LANES), to.len());
        for (block, terms) in blocks.iter().zip(terms) {
            for lane in Lane::all() {
                if start >= end {
                    break;
                }
                let first = start;
                start = start.wrapping_add(classes);
                if block.is_marked(lane) {
                    continue;
                }
                let is_inside = overlap && first.saturating_add(reach) <= end;
                let to = part_mut(to, first, if is_inside { reach } else { classes });
                Elements::new(s, block, terms, lane).write(s, to, exponentials, u, odds, first);
            }
        }
        // The elements that are not made of their exponentials.
        let mut start = 0;
        for (block, terms) in blocks.iter().zip(terms) {
            for lane in Lane::all() {
                let row = part_mut(to, start, classes);
                start = start.wrapping_add(classes);
                if block.is_marked(lane) {
                    continue;
                }
                if let Some(element) = row.get_mut(terms.label[lane]) {
                    *element = terms.at_label[lane];
                }
                if let Some(element) = row.get_mut(block.class[lane]) {
                    *element = block.at_reference[lane];
                }
            }
        }
    }
}

/// What the exponentials of a row, u and the odds are multiplied by.
pub(crate) struct Elements<S: Vector> {
    scale: S::F,
    factor: S::F,
    of_odds: S::F,
}

impl<S: Vector> Elements<S> {
    /// Those of the row of a lane.
    #[inline(always)]
    pub(crate) fn new(s: S, block: &RowBlock, terms: &TermBlock, lane: Lane) -> Self {
        Self {
            scale: s.splat(block.scale[lane]),
            factor: s.splat(-terms.factor[lane]),
            of_odds: s.splat(terms.weighed_probability[lane]),
        }
    }

    /// The part of the elements that is proportional to the exponentials; with that of u, and with that of the odds.
    #[inline(always)]
    fn of(&self, s: S, e: &[f32]) -> S::F {
        s.mul(s.load(e, 0), self.scale)
    }

    #[inline(always)]
    fn with_u(&self, s: S, e: &[f32], u: S::F) -> S::F {
        s.mul_add(u, self.factor, self.of(s, e))
    }

    #[inline(always)]
    fn with_odds(&self, s: S, element: S::F, odds: &[f32]) -> S::F {
        s.mul_add(s.load(odds, 0), self.of_odds, element)
    }

    /// Writes the row that begins at `start`: a loop for each of the ways to u.
    #[inline(always)]
    pub(crate) fn write(
        &self,
        s: S,
        to: &mut [f32],
        exponentials: &[f32],
        u: Option<U<'_>>,
        odds: Option<&[f32]>,
        start: usize,
    ) {
        let reach = to.len().next_multiple_of(S::LANES);
        let row = |numbers, start| vectors(s, numbers, start, reach);
        let e = row(exponentials, start);
        match (u, odds) {
            (None, None) => write_vectors(
                s,
                to,
                e,
                #[inline(always)]
                |e| self.of(s, e),
            ),
            (None, Some(odds)) => {
                let items = e.zip(row(odds, start));
                write_vectors(
                    s,
                    to,
                    items,
                    #[inline(always)]
                    |(e, odds)| self.with_odds(s, self.of(s, e), odds),
                );
            }
            (Some(u), Some(odds)) => {
                // Targets do not go with costs.
                let items = e.zip(row(u.rows, 0)).zip(row(odds, start));
                write_vectors(
                    s,
                    to,
                    items,
                    #[inline(always)]
                    |((e, u), odds)| self.with_odds(s, self.with_u(s, e, s.load(u, 0)), odds),
                );
            }
            (Some(u), None) => self.write_with_u(s, to, e, u, start),
        }
    }

    #[inline(always)]
    fn write_with_u(&self, s: S, to: &mut [f32], e: ChunksExact<'_, f32>, u: U<'_>, start: usize) {
        if let Some(u) = u.even {
            let u = s.splat(u);
            return write_vectors(
                s,
                to,
                e,
                #[inline(always)]
                |e| self.with_u(s, e, u),
            );
        }
        let reach = to.len().next_multiple_of(S::LANES);
        let items = e.zip(vectors(s, u.rows, u.start(start), reach));
        if let Some(weights) = u.weights {
            return write_vectors(
                s,
                to,
                items.zip(vectors(s, weights, 0, reach)),
                #[inline(always)]
                |((e, q), w)| self.with_u(s, e, s.mul(u.unweighted(s, s.load(q, 0)), s.load(w, 0))),
            );
        }
        write_vectors(
            s,
            to,
            items,
            #[inline(always)]
            |(e, q)| self.with_u(s, e, u.unweighted(s, s.load(q, 0))),
        );
    }
}

/// Vectors of so many elements from `start` on.
#[inline(always)]
fn vectors<S: Vector>(_: S, numbers: &[f32], start: usize, len: usize) -> ChunksExact<'_, f32> {
    part(numbers, start, len).chunks_exact(S::LANES)
}

/// Writes as many elements as there is room for, the last of them from the last item.
#[inline(always)]
fn write_vectors<S: Vector, T>(
    s: S,
    to: &mut [f32],
    mut items: impl DoubleEndedIterator<Item = T> + Clone,
    vector: impl Fn(T) -> S::F,
) {
    let (columns, rest) = to.split_at_mut_checked(whole(to.len(), S::LANES)).unwrap_or_default();
    for (to, item) in columns.chunks_exact_mut(S::LANES).zip(items.clone()) {
        s.store(vector(item), to, 0);
    }
    if !rest.is_empty()
        && let Some(item) = items.next_back()
    {
        s.store_some(vector(item), rest);
    }
}
