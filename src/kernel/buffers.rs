//! Where logits are read and gradients written: nowhere, to a slice of their own, or over the logits.

use super::{VIRTUAL_LANES, copy, part, part_mut};
use crate::backend::vector::Vector;

/// The logits of a call and where their gradient goes.
pub(crate) trait Buffers {
    /// Whether there is a gradient to write.
    const GRADIENT: bool;
    /// The logits; once a row's gradient is written, that row may hold the gradient.
    fn logits(&self) -> &[f32];
    /// Writes `map(x)` for each logit x of the row.
    fn map<S: Vector>(&mut self, s: S, start: usize, len: usize, map: impl Fn(S::F) -> S::F);
    /// The gradient of the row.
    fn gradient(&mut self, start: usize, len: usize) -> &mut [f32];
    /// The gradient of all rows.
    fn gradients(&mut self) -> &mut [f32];
    /// The logits, unless the gradient is written over them, and the gradient of all rows.
    fn split(&mut self) -> (Option<&[f32]>, &mut [f32]);
}

/// Logits only.
pub(crate) struct LossOnly<'a>(pub(crate) &'a [f32]);

impl Buffers for LossOnly<'_> {
    const GRADIENT: bool = false;
    #[inline(always)]
    fn logits(&self) -> &[f32] {
        self.0
    }
    #[inline(always)]
    fn map<S: Vector>(&mut self, _: S, _: usize, _: usize, _: impl Fn(S::F) -> S::F) {}
    #[inline(always)]
    fn gradient(&mut self, _: usize, _: usize) -> &mut [f32] {
        &mut []
    }

    #[inline(always)]
    fn gradients(&mut self) -> &mut [f32] {
        &mut []
    }
    #[inline(always)]
    fn split(&mut self) -> (Option<&[f32]>, &mut [f32]) {
        (Some(self.0), &mut [])
    }
}

/// The gradient goes to a slice of its own.
pub(crate) struct Separate<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) gradient: &'a mut [f32],
}

impl Buffers for Separate<'_> {
    const GRADIENT: bool = true;
    #[inline(always)]
    fn logits(&self) -> &[f32] {
        self.logits
    }
    #[inline(always)]
    fn map<S: Vector>(&mut self, s: S, start: usize, len: usize, map: impl Fn(S::F) -> S::F) {
        let row = part(self.logits, start, len);
        let gradient = part_mut(self.gradient, start, len);
        let (from, mut to) = (row.chunks_exact(S::LANES), gradient.chunks_exact_mut(S::LANES));
        let tail = from.remainder();
        for (to, from) in to.by_ref().zip(from) {
            s.store(map(s.load(from, 0)), to, 0);
        }
        if tail.is_empty() {
            return;
        }
        if len >= S::LANES {
            s.store(map(s.load(row, len - S::LANES)), gradient, len - S::LANES);
            return;
        }
        let to = to.into_remainder();
        copy(to, tail);
        map_tail(s, to, map);
    }
    #[inline(always)]
    fn gradient(&mut self, start: usize, len: usize) -> &mut [f32] {
        part_mut(self.gradient, start, len)
    }

    #[inline(always)]
    fn gradients(&mut self) -> &mut [f32] {
        self.gradient
    }
    #[inline(always)]
    fn split(&mut self) -> (Option<&[f32]>, &mut [f32]) {
        (Some(self.logits), self.gradient)
    }
}

/// The gradient is written over the logits.
pub(crate) struct InPlace<'a>(pub(crate) &'a mut [f32]);

impl Buffers for InPlace<'_> {
    const GRADIENT: bool = true;
    #[inline(always)]
    fn logits(&self) -> &[f32] {
        self.0
    }
    #[inline(always)]
    fn map<S: Vector>(&mut self, s: S, start: usize, len: usize, map: impl Fn(S::F) -> S::F) {
        let row = part_mut(self.0, start, len);
        // The last vector overlaps the one before it, which will have been written.
        let last = if len >= S::LANES { s.load(row, len - S::LANES) } else { s.splat(0.0) };
        let mut chunks = row.chunks_exact_mut(S::LANES);
        for chunk in chunks.by_ref() {
            s.store(map(s.load(chunk, 0)), chunk, 0);
        }
        let tail = chunks.into_remainder();
        if tail.is_empty() {
            return;
        }
        if len >= S::LANES {
            s.store(map(last), row, len - S::LANES);
        } else {
            map_tail(s, tail, map);
        }
    }
    #[inline(always)]
    fn gradient(&mut self, start: usize, len: usize) -> &mut [f32] {
        part_mut(self.0, start, len)
    }

    #[inline(always)]
    fn gradients(&mut self) -> &mut [f32] {
        self.0
    }
    #[inline(always)]
    fn split(&mut self) -> (Option<&[f32]>, &mut [f32]) {
        (None, self.0)
    }
}

/// Maps fewer elements than a vector has, through a vector on the stack.
#[inline(always)]
fn map_tail<S: Vector>(s: S, tail: &mut [f32], map: impl Fn(S::F) -> S::F) {
    if tail.is_empty() {
        return;
    }
    let mut padded = [0.0; VIRTUAL_LANES];
    copy(&mut padded, tail);
    let mapped = map(s.load(&padded, 0));
    s.store(mapped, &mut padded, 0);
    copy(tail, &padded);
}
