//! Global settings: the backend and the threads.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kernel::Backend;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// One plus the index of the backend among those available; 0 for the best.
static FORCED: AtomicUsize = AtomicUsize::new(0);

/// Threads for large calls; None computes on the calling thread.
static POOL: RwLock<Option<Arc<ThreadPool>>> = RwLock::new(None);

/// Number of logits from which on a call is split over the pool.
const LEAST: usize = 1 << 18;

pub(crate) fn forced() -> Option<Backend> {
    let place = FORCED.load(Ordering::Relaxed).checked_sub(1)?;
    Backend::available().nth(place)
}

/// The pool for a call with this number of logits, if it is large enough.
pub(crate) fn pool(logits: usize) -> Option<Arc<ThreadPool>> {
    if logits < LEAST {
        return None;
    }
    POOL.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Names of the backends that this processor supports, the best first.
#[pyfunction]
pub(crate) fn backends() -> Vec<&'static str> {
    Backend::available().map(Backend::name).collect()
}

/// Name of the backend in use.
#[pyfunction]
pub(crate) fn backend() -> &'static str {
    forced().unwrap_or_else(Backend::active).name()
}

/// Sets the backend by name, None for the best.
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

/// Sets the number of threads of large calls; with 1 the calling thread computes alone.
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

/// Number of threads of large calls.
#[pyfunction]
pub(crate) fn threads() -> usize {
    POOL.read().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(1, |pool| pool.current_num_threads())
}

/// Forgets the pool in a forked process, where its threads do not exist.
#[pyfunction]
pub(crate) fn forget_threads() {
    mem::forget(POOL.write().unwrap_or_else(PoisonError::into_inner).take());
}
