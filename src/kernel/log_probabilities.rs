//! log p of every class and log Σ exp of every row.

use super::from_largest::{FromLargest, Logits, SUMS};
use super::log1p::log1p;
use super::terms::{RowInF64, Terms};
use super::tile::{Place, Tile};
use super::views::{SHORT_ROW_OF_MANY_SUMS, Seen, View, numbers};
use super::{VIRTUAL_LANES, copy, part_mut};
use crate::backend::vector::{Operation, Vector};

/// Everything has been validated.
pub(crate) struct LogProbabilityRows<'a> {
    pub(crate) terms: &'a Terms<'a>,
    pub(crate) logits: &'a [f32],
    pub(crate) log_probabilities: Option<&'a mut [f32]>,
    pub(crate) log_sum_exps: Option<&'a mut [f32]>,
}

impl Operation for LogProbabilityRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(mut self, s: S) {
        let rows = self.terms.rows;
        let mut tile = Tile::<SHORT_ROW_OF_MANY_SUMS>::EMPTY;
        let tile = tile.numbers_mut();
        let mut first = 0;
        while first < rows.count() {
            first += match Seen::new(s, rows, first) {
                Seen::Across(view) => self.group(s, view, first, None),
                Seen::Turned(place) => {
                    place.bring(s, self.logits, tile);
                    self.group(s, place.view(s), first, Some((place, tile)))
                }
                Seen::Along(view) => self.group(s, view, first, None),
            };
        }
    }
}

impl LogProbabilityRows<'_> {
    /// Computes the rows of a view, whose logits stand in a tile if they are turned, and returns their number.
    #[inline(always)]
    fn group<S: Vector, V: View<S>>(
        &mut self,
        s: S,
        view: V,
        first: usize,
        mut turned: Option<(Place, &mut [f32])>,
    ) -> usize {
        let numbers_seen = turned.as_ref().map_or(self.logits, |(_, tile)| &**tile);
        let logits = Logits { numbers: numbers_seen, adjustment: &self.terms.adjustment };
        let found = FromLargest::new(s, view, logits);
        let log = log1p(s, found.plain(s));
        let mut log_sum_exps = numbers(s, view, s.add(found.largest, s.add(log.hi, log.lo)));
        let sums = numbers(s, view, found.excluded.hi);
        if let Some(out) = self.log_probabilities.as_deref_mut() {
            let of_largest = s.sub(s.splat(0.0), log.hi);
            for i in 0..view.vectors() {
                let seen = turned.as_ref().map_or(self.logits, |(_, tile)| &**tile);
                let x = Logits { numbers: seen, adjustment: &self.terms.adjustment }.load(s, view, i);
                let value = s.sub(s.sub(x, found.largest), log.hi);
                let value = s.select(s.equal(x, found.largest), of_largest, value);
                match turned.as_mut() {
                    Some((_, tile)) => view.store(s, value, tile, i),
                    None => view.store(s, value, out, i),
                }
            }
            if let Some((place, tile)) = turned {
                place.send(s, tile, out);
            }
        }
        for lane in (0..view.rows().min(VIRTUAL_LANES)).filter(|&lane| !SUMS.contains(&sums[lane])) {
            let row = RowInF64::new(self.terms, first + lane, self.logits);
            log_sum_exps[lane] = row.log_sum_exp() as f32;
            for class in 0..self.terms.rows.classes() {
                let element = self.terms.rows.element(first + lane, class);
                if let Some(to) = self.log_probabilities.as_deref_mut().and_then(|out| out.get_mut(element)) {
                    *to = -row.minus_log_p_of(self.logits, class) as f32;
                }
            }
        }
        if let Some(out) = self.log_sum_exps.as_deref_mut() {
            copy(part_mut(out, first, view.rows()), &log_sum_exps);
        }
        view.rows()
    }
}
