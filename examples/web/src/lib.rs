//! The losses in a browser: functions that JavaScript calls, over memory that it fills.
#![no_std]

#[path = "../../../tests/vectors/mod.rs"]
mod vectors;

use rwwce::Backend;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Takes a result of the fixed set: its number of classes, its name in UTF-8, its bits.
    fn result(classes: usize, name: *const u8, name_len: usize, bits: u32);
}

/// Computes the fixed set of losses with a backend, by its number among those that there are; 1 if all went well, 0 if
/// there is no such backend.
#[unsafe(no_mangle)]
pub extern "C" fn report(backend: usize) -> u32 {
    let Some(backend) = Backend::available().nth(backend) else { return 0 };
    let reported = vectors::report(backend, |name, classes, bits| {
        // SAFETY: the host reads the name and keeps nothing.
        unsafe { result(classes, name.as_ptr(), name.len(), bits) }
    });
    reported.is_ok().into()
}
