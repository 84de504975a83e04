//! log p of every class and log Σ exp of every row.

use super::from_largest::{Adjusted, FromLargest, SUMS, adjusted};
use super::log1p::log1p;
use super::narrow_rows::NarrowRow;
use super::pair::two_sum;
use super::terms::{RowInF64, Terms};
use super::tile::{Place, Tile};
use super::views::{SHORT_ROW_OF_MANY_SUMS, Seen, View, numbers};
use super::{VIRTUAL_LANES, copy, part_mut};
use crate::backend::vector::{Operation, Vector};
use crate::logits::Logits;

/// Everything has been validated.
pub(crate) struct LogProbabilityRows<'a> {
    pub(crate) terms: &'a Terms<'a>,
    /// The logits, f32 where there are log-probabilities, unless these are written over them.
    pub(crate) logits: Option<Logits<'a>>,
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
            let narrow = self.logits.filter(|logits| logits.as_f32().is_none());
            first += match Seen::new(s, rows, first) {
                _ if let Some(logits) = narrow => self.group(s, NarrowRow::new(rows, first, logits), first, None),
                Seen::Across(view) => self.group(s, view, first, None),
                Seen::Turned(place) => {
                    place.bring(s, self.numbers(), tile);
                    self.group(s, place.view(s), first, Some((place, tile)))
                }
                Seen::Along(view) => self.group(s, view, first, None),
            };
        }
    }
}

impl LogProbabilityRows<'_> {
    /// The logits as they are given.
    #[inline(always)]
    fn raw(&self) -> Logits<'_> {
        self.logits.unwrap_or(Logits::F32(self.log_probabilities.as_deref().unwrap_or(&[])))
    }

    /// The same where they are f32.
    #[inline(always)]
    fn numbers(&self) -> &[f32] {
        self.raw().as_f32().unwrap_or(&[])
    }

    /// Computes the rows of a view, whose logits stand in a tile if they are turned, and returns their number.
    #[inline(always)]
    fn group<S: Vector, V: View<S>>(
        &mut self,
        s: S,
        view: V,
        first: usize,
        mut turned: Option<(Place, &mut [f32])>,
    ) -> usize {
        let numbers_seen = turned.as_ref().map_or(self.numbers(), |(_, tile)| &**tile);
        let logits = Adjusted { numbers: numbers_seen, adjustment: &self.terms.adjustment };
        let found = FromLargest::new(s, view, logits);
        let log = log1p(s, found.plain(s));
        let sum = two_sum(s, found.largest, log.hi);
        let mut log_sum_exps = numbers(s, view, s.add(sum.hi, s.add(sum.lo, log.lo)));
        let sums = numbers(s, view, found.excluded.hi);
        let is_special = sums.map(|sum| !SUMS.contains(&sum));
        if self.log_probabilities.is_some() {
            let of_largest = s.sub(s.splat(0.0), log.hi);
            // Rows that are something special are still needed as they are.
            let keep = s.equal(view.of_rows(s, &is_special.map(|special| f32::from(u8::from(special)))), s.splat(1.0));
            for i in 0..view.vectors() {
                let seen = turned.as_ref().map_or(self.numbers(), |(_, tile)| &**tile);
                let raw = view.load(s, seen, i, f32::NEG_INFINITY);
                let x = adjusted(s, view, &self.terms.adjustment, raw, i);
                let value = s.sub(s.sub(x, found.largest), log.hi);
                let value = s.select(s.equal(x, found.largest), of_largest, value);
                let value = s.select(keep, raw, value);
                let out = self.log_probabilities.as_deref_mut().unwrap_or(&mut []);
                view.store(s, value, turned.as_mut().map_or(out, |(_, tile)| &mut **tile), i);
            }
            if let (Some((place, tile)), Some(out)) = (turned, self.log_probabilities.as_deref_mut()) {
                place.send(s, tile, out);
            }
        }
        for lane in (0..view.rows().min(VIRTUAL_LANES)).filter(|&lane| is_special[lane]) {
            let rows = self.terms.rows;
            let row = RowInF64::new(self.terms, first + lane, self.raw());
            log_sum_exps[lane] = row.log_sum_exp() as f32;
            if let Some(out) = self.log_probabilities.as_deref_mut() {
                for class in 0..rows.classes() {
                    let log_p = -row.minus_log_p_of(self.logits.unwrap_or(Logits::F32(out)), class) as f32;
                    if let Some(to) = out.get_mut(rows.element(first + lane, class)) {
                        *to = log_p;
                    }
                }
            }
        }
        if let Some(out) = self.log_sum_exps.as_deref_mut() {
            copy(part_mut(out, first, view.rows()), &log_sum_exps);
        }
        view.rows()
    }
}
