//! The modules of the C interface as a Rust library: a static one cannot be a dependency.
#![allow(
    non_camel_case_types,
    private_interfaces,
    clippy::missing_safety_doc,
    clippy::too_many_arguments,
    reason = "as the C interface has it"
)]

include!(concat!(env!("OUT_DIR"), "/modules.rs"));
