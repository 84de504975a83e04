//! What is chosen once for all calls: the backend, and the threads.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kernel::Backend;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// One more than the place of the backend among those available; 0 for the best.
static FORCED: AtomicUsize = AtomicUsize::new(0);

/// None for the thread that calls.
static POOL: RwLock<Option<Arc<ThreadPool>>> = RwLock::new(None);

/// The number of logits from which on a call is worth handing to a pool.
const LEAST: usize = 1 << 18;

pub(crate) fn forced() -> Option<Backend> {
    let place = FORCED.load(Ordering::Relaxed).checked_sub(1)?;
    Backend::available().nth(place)
}

/// The pool for a call with so many logits, if it is to be split.
pub(crate) fn pool(logits: usize) -> Option<Arc<ThreadPool>> {
    if logits < LEAST {
        return None;
    }
    POOL.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The names of the backends of this machine, the best first.
#[pyfunction]
pub(crate) fn backends() -> Vec<&'static str> {
    Backend::available().map(Backend::name).collect()
}

/// The name of the backend that computes.
#[pyfunction]
pub(crate) fn backend() -> &'static str {
    forced().unwrap_or_else(Backend::active).name()
}

/// Computes with the backend of this name, or with the best.
#[pyfunction]
pub(crate) fn force_backend(name: Option<&str>) -> PyResult<()> {
    let place = match name {
        None => 0,
        Some(name) => Backend::available().position(|backend| backend.name() == name).map_or_else(
            || {
                Err(PyValueError::new_err(format!(
                    "backend: expected one of {}, found '{name}'",
                    backends().join(", ")
                )))
            },
            |place| Ok(place + 1),
        )?,
    };
    FORCED.store(place, Ordering::Relaxed);
    Ok(())
}

/// Splits large calls over so many threads; the thread that calls computes alone for 1.
#[pyfunction]
pub(crate) fn set_threads(py: Python<'_>, threads: usize) -> PyResult<()> {
    let pool = match threads {
        0 => return Err(PyValueError::new_err("threads: expected at least 1, found 0")),
        1 => None,
        _ => {
            let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("rwwce {i}")).build();
            Some(Arc::new(pool.map_err(|error| PyRuntimeError::new_err(error.to_string()))?))
        }
    };
    py.detach(|| drop(mem::replace(&mut *POOL.write().unwrap_or_else(PoisonError::into_inner), pool)));
    Ok(())
}

/// The number of threads that large calls are split over.
#[pyfunction]
pub(crate) fn threads() -> usize {
    POOL.read().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(1, |pool| pool.current_num_threads())
}

/// In a process that was forked, where the threads of the pool are not.
#[pyfunction]
pub(crate) fn forget_threads() {
    mem::forget(POOL.write().unwrap_or_else(PoisonError::into_inner).take());
}
