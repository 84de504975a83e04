//! Version of this library, and its backends.

use core::ffi::{CStr, c_char};
use core::ptr;

use crate::options::backend;
use kernel::Backend;

/// The version of this library, such as "0.2.0", to compare with `RWWCE_VERSION`, the version of the header.
#[unsafe(no_mangle)]
pub extern "C" fn rwwce_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version without NUL"),
    };
    VERSION.as_ptr()
}

/// Name of the backend that computes unless the options name another: "avx512", "avx2", "neon", "sse2", "simd128",
/// "scalar" (a multiply-add rounds twice) or "scalar-fma" (once). The last two are for processors without vectors; a
/// library has both only if built with the feature `scalar`, to reproduce a microcontroller. The processor is queried
/// once. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn rwwce_backend_name() -> *const c_char {
    name_of(Backend::active()).as_ptr()
}

/// Name of backend `index` of those that this processor supports, the fastest first; NULL past the last.
#[unsafe(no_mangle)]
pub extern "C" fn rwwce_backend_available(index: usize) -> *const c_char {
    Backend::available().nth(index).map_or(ptr::null(), |backend| name_of(backend).as_ptr())
}

/// 1 if a multiply-add of this backend rounds once, 0 if it rounds twice, −1 if the backend is not supported. NULL is
/// the best backend. Backends with the same answer return the same bits, except "scalar" and "scalar-fma", which
/// compute in one lane: each of these has bits of its own, the same on every machine, microcontrollers among them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_backend_is_fused(name: *const c_char) -> i32 {
    // SAFETY: NULL or a string that ends with NUL, as the caller of a C function promises.
    match unsafe { backend(name) } {
        Ok(backend) => backend.unwrap_or_else(Backend::active).is_fused().into(),
        Err(_) => -1,
    }
}

fn name_of(backend: Backend) -> &'static CStr {
    match backend.name() {
        "avx512" => c"avx512",
        "avx2" => c"avx2",
        "neon" => c"neon",
        "sse2" => c"sse2",
        "simd128" => c"simd128",
        "scalar-fma" => c"scalar-fma",
        _ => c"scalar",
    }
}
