//! Calls split over threads, in a library built with the feature `threads`.

use crate::status::*;

/// Number of threads of a call.
#[derive(Clone, Copy)]
pub(crate) struct Threads(#[cfg_attr(not(feature = "threads"), expect(dead_code, reason = "it is 1"))] usize);

impl Threads {
    /// The calling thread alone.
    pub(crate) const ONE: Self = Self(1);

    /// The number in the options; 0 for that of the environment.
    pub(crate) fn of(number: usize) -> Result<Self, rwwce_error> {
        let number = if number == 0 { of_environment() } else { number };
        if number > MOST {
            return Err(rwwce_error {
                found: number,
                expected: MOST,
                ..rwwce_error::new(RWWCE_ERROR_UNKNOWN_VALUE, RWWCE_ARGUMENT_THREADS)
            });
        }
        Ok(Self(number))
    }

    /// Whether calls are split: not if the system cannot create the threads.
    #[cfg(feature = "threads")]
    pub(crate) fn are_several(self) -> bool {
        self.0 > 1 && with_threads::pool(self.0).is_some()
    }
}

#[cfg(not(feature = "threads"))]
const MOST: usize = 1;

#[cfg(not(feature = "threads"))]
fn of_environment() -> usize {
    1
}

#[cfg(not(feature = "threads"))]
impl Threads {
    /// Runs `call` on the calling thread.
    #[inline(always)]
    pub(crate) fn run<R>(self, call: impl FnOnce() -> R) -> R {
        call()
    }
}

#[cfg(feature = "threads")]
use with_threads::{MOST, of_environment};

#[cfg(feature = "threads")]
mod with_threads {
    use std::sync::{Arc, Mutex, OnceLock, PoisonError};
    use std::vec::Vec;

    use rayon::{ThreadPool, ThreadPoolBuilder};

    use super::Threads;

    pub(super) const MOST: usize = 1024;

    /// `RWWCE_THREADS`, as read by the first call; 1 if unset or not in 1..=MOST.
    pub(super) fn of_environment() -> usize {
        static THREADS: OnceLock<usize> = OnceLock::new();
        *THREADS.get_or_init(|| {
            let number = std::env::var("RWWCE_THREADS").ok().and_then(|number| number.parse().ok());
            number.filter(|number| (1..=MOST).contains(number)).unwrap_or(1)
        })
    }

    impl Threads {
        /// Runs `call` within a pool of this many threads, created by the first such call and kept; on the calling
        /// thread if the system cannot create them.
        pub(crate) fn run<R: Send>(self, call: impl FnOnce() -> R + Send) -> R {
            let pool = if self.0 > 1 { pool(self.0) } else { None };
            match pool {
                Some(pool) => pool.install(call),
                None => call(),
            }
        }
    }

    pub(super) fn pool(threads: usize) -> Option<Arc<ThreadPool>> {
        static POOLS: Mutex<Vec<(usize, Arc<ThreadPool>)>> = Mutex::new(Vec::new());
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pool)) = pools.iter().find(|(number, _)| *number == threads) {
            return Some(pool.clone());
        }
        let pool = Arc::new(ThreadPoolBuilder::new().num_threads(threads).build().ok()?);
        pools.push((threads, pool.clone()));
        Some(pool)
    }
}
