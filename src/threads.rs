//! The threads of rayon that a call may use.

use std::panic::{RefUnwindSafe, UnwindSafe};

use rayon::{Scope, ThreadPool};

/// The threads that compute a large call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Threads<'a> {
    /// The calling thread alone.
    One,
    /// As many as rayon's current pool has.
    Current,
    /// As many as this pool has.
    Of(&'a ThreadPool),
}

// Rayon passes a panic on, and its pools are whole after one.
impl UnwindSafe for Threads<'_> {}
impl RefUnwindSafe for Threads<'_> {}

impl Threads<'_> {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Current => rayon::current_num_threads(),
            Self::Of(pool) => pool.current_num_threads(),
        }
    }

    /// Runs `work` on the calling thread, which may hand jobs to the pool, and waits for them.
    pub(crate) fn scope<'s>(self, work: impl FnOnce(&Scope<'s>)) {
        match self {
            Self::Of(pool) => pool.in_place_scope(work),
            Self::One | Self::Current => rayon::in_place_scope(work),
        }
    }
}
