//! The native module `rwwce._native` of the Python package.
//!
//! Functions take addresses and numbers of elements, so that a call costs about a microsecond; `usual` takes PyTorch
//! tensors. They are private to the package, which checks types and shapes and keeps the arrays alive, and release the
//! interpreter lock (GIL) while they compute.

mod arrays;
mod class_weights;
mod losses;
mod other_losses;
mod settings;
mod tensors;

#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::class_weights::class_weights;
    #[pymodule_export]
    use crate::losses::softmax;
    #[pymodule_export]
    use crate::other_losses::{
        binary, decide, log_probabilities_gradient, log_probability_loss, logs, weigh, weigh_binary,
    };
    #[pymodule_export]
    use crate::settings::{backend, backends, force_backend, forget_threads, set_threads, threads};
    #[pymodule_export]
    use crate::tensors::usual;

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const version: &str = env!("CARGO_PKG_VERSION");
}
