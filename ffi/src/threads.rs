//! Calls split over threads, in a library built with the feature `threads`.

use kernel::CrossEntropy;

use crate::status::*;

/// The loss, split over this number of threads; 0 for that of the environment.
pub(crate) fn with_threads(loss: CrossEntropy<'_>, number: usize) -> Result<CrossEntropy<'_>, rwwce_error> {
    let number = if number == 0 { of_environment() } else { number };
    if number > MOST {
        return Err(rwwce_error {
            found: number,
            expected: MOST,
            ..rwwce_error::new(RWWCE_ERROR_UNKNOWN_VALUE, RWWCE_ARGUMENT_THREADS)
        });
    }
    Ok(split(loss, number))
}

#[cfg(not(feature = "threads"))]
use without::{MOST, of_environment, split};

#[cfg(not(feature = "threads"))]
mod without {
    use kernel::CrossEntropy;

    pub(super) const MOST: usize = 1;

    pub(super) const fn of_environment() -> usize {
        1
    }

    pub(super) const fn split(loss: CrossEntropy<'_>, _number: usize) -> CrossEntropy<'_> {
        loss
    }
}

#[cfg(feature = "threads")]
use with::{MOST, of_environment, split};

#[cfg(feature = "threads")]
mod with {
    use std::boxed::Box;
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::vec::Vec;

    use kernel::CrossEntropy;
    use rayon::{ThreadPool, ThreadPoolBuilder};

    pub(super) const MOST: usize = 1024;

    /// `RWWCE_THREADS`, as read by the first call; 1 if unset or not in 1..=MOST.
    pub(super) fn of_environment() -> usize {
        static THREADS: OnceLock<usize> = OnceLock::new();
        *THREADS.get_or_init(|| {
            let number = std::env::var("RWWCE_THREADS").ok().and_then(|number| number.parse().ok());
            number.filter(|number| (1..=MOST).contains(number)).unwrap_or(1)
        })
    }

    /// The loss over this many threads; on the calling thread alone if the system cannot create them.
    pub(super) fn split(loss: CrossEntropy<'_>, number: usize) -> CrossEntropy<'_> {
        let pool = if number > 1 { pool(number) } else { None };
        pool.map_or(loss, |pool| loss.parallel_in(pool))
    }

    /// The pool of this many threads, created by the first such call and kept as long as the process.
    fn pool(threads: usize) -> Option<&'static ThreadPool> {
        static POOLS: Mutex<Vec<(usize, &ThreadPool)>> = Mutex::new(Vec::new());
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&(_, pool)) = pools.iter().find(|(number, _)| *number == threads) {
            return Some(pool);
        }
        let pool = Box::leak(Box::new(ThreadPoolBuilder::new().num_threads(threads).build().ok()?));
        pools.push((threads, pool));
        Some(pool)
    }
}
