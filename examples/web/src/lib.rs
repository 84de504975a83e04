//! WebAssembly interface of the losses: functions that JavaScript calls, on memory that JavaScript fills.
//!
//! Nothing here allocates: memory above `__heap_base`, which the linker exports, belongs to JavaScript, which may grow
//! it.
#![no_std]

#[path = "../../../tests/vectors/mod.rs"]
mod vectors;

use core::fmt::{self, Write};
use core::slice;

use rwwce::{Backend, CrossEntropy, Error, Summary};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Receives a result of the fixed set: number of classes, name in UTF-8, bits.
    fn result(classes: usize, name: *const u8, name_len: usize, bits: u32);
    /// Receives a piece of a text in UTF-8, the name of a backend or an error message.
    fn text(piece: *const u8, len: usize);
    /// Receives the summary of a batch.
    safe fn summary(loss: f32, denominator: f64, rows: usize, non_finite: usize);
}

/// Computes the fixed set of losses with a backend, given by its index among those available; returns 1, or 0 if there
/// is no such backend or a loss fails.
#[unsafe(no_mangle)]
pub extern "C" fn report(backend: usize) -> u32 {
    let Some(backend) = Backend::available().nth(backend) else { return 0 };
    let reported = vectors::report(backend, |name, classes, bits| {
        // SAFETY: the host reads the name and keeps nothing.
        unsafe { result(classes, name.as_ptr(), name.len(), bits) }
    });
    reported.is_ok().into()
}

/// Sends the name of a backend, by its index; returns 1 if it is fused (FMA), 0 if not, -1 if there is no such backend.
#[unsafe(no_mangle)]
pub extern "C" fn backend(number: usize) -> i32 {
    let Some(backend) = Backend::available().nth(number) else { return -1 };
    send(&backend);
    backend.is_fused().into()
}

/// Sends the summary of a batch, writes the row losses, and writes the gradient of the mean over the logits, in place.
///
/// Returns 0; or sends the error message, returns the 1-based row that it names or -1, and writes nothing.
///
/// # Safety
///
/// `logits` has rows × classes elements, `labels` and `row_losses` one for each row, `class_weights` as many as
/// `class_weights_count` says, 0 for a loss without class weights. All are aligned and do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loss_gradient(
    backend: usize,
    rows: usize,
    classes: usize,
    logits: *mut f32,
    labels: *const i64,
    class_weights: *const f32,
    class_weights_count: usize,
    row_losses: *mut f32,
) -> i32 {
    // The library refuses sizes whose product overflows.
    let elements = rows.wrapping_mul(classes);
    // SAFETY: the caller guarantees it; all memory of WebAssembly is initialised, and JavaScript waits meanwhile.
    let (logits, labels, class_weights, row_losses) = unsafe {
        (
            slice::from_raw_parts_mut(logits, elements),
            slice::from_raw_parts(labels, rows),
            slice::from_raw_parts(class_weights, class_weights_count),
            slice::from_raw_parts_mut(row_losses, rows),
        )
    };
    let mut loss = CrossEntropy::new(classes);
    if let Some(backend) = Backend::available().nth(backend) {
        loss = loss.backend(backend);
    }
    if !class_weights.is_empty() {
        loss = loss.class_weights(class_weights);
    }
    let computed = loss.row_losses(&*logits, labels, row_losses).and_then(|of_rows| {
        loss.gradient_in_place(logits, labels, 1.0)?;
        Ok(of_rows)
    });
    match computed {
        Ok(Summary { loss, denominator, rows, non_finite, .. }) => {
            summary(loss, denominator, rows, non_finite);
            0
        }
        Err(error) => {
            send(&error);
            match error {
                Error::LabelOutOfRange { row, .. } => i32::try_from(row).map_or(-1, |row| row.saturating_add(1)),
                _ => -1,
            }
        }
    }
}

/// Sends a text.
fn send(what: &impl fmt::Display) {
    struct Host;
    impl Write for Host {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            // SAFETY: the host reads the piece and keeps nothing.
            unsafe { text(piece.as_ptr(), piece.len()) };
            Ok(())
        }
    }
    // `write_str` of the host never fails.
    let _ = write!(Host, "{what}");
}
