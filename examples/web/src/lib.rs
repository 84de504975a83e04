//! The losses in a browser: functions that JavaScript calls, over memory that it fills.
//!
//! Nothing here allocates: what lies above `__heap_base`, which the linker exports, is JavaScript's to use and to grow.
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
    /// Takes a result of the fixed set: its number of classes, its name in UTF-8, its bits.
    fn result(classes: usize, name: *const u8, name_len: usize, bits: u32);
    /// Takes a piece of a text, in UTF-8: of the name of a backend, or of the message of an error.
    fn text(piece: *const u8, len: usize);
    /// Takes what a batch comes to.
    safe fn summary(loss: f32, denominator: f64, rows: usize, non_finite: usize);
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

/// Sends the name of a backend: 1 if a multiply-add rounds once there, 0 if it rounds twice, -1 if there is no such
/// backend.
#[unsafe(no_mangle)]
pub extern "C" fn backend(number: usize) -> i32 {
    let Some(backend) = Backend::available().nth(number) else { return -1 };
    send(&backend);
    backend.is_fused().into()
}

/// Sends the summary of a batch, writes the loss of each row, and writes the gradient of the mean over the logits.
///
/// Returns 0, or sends the message of an error and returns the number of the row that it names, counted from 1, or -1
/// where it names none; nothing is then written.
///
/// # Safety
///
/// `logits` has rows × classes elements, `labels` and `row_losses` have one for each row, `class_weights` as many as it
/// says, 0 for a loss without them. They are aligned and do not overlap.
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
    // A product that does not fit is what the library refuses.
    let elements = rows.wrapping_mul(classes);
    // SAFETY: the caller promises as much; all memory that JavaScript can name is initialised, and it waits meanwhile.
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
    // The host takes everything.
    let _ = write!(Host, "{what}");
}
