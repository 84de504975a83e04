//! Logits of every element type.

use core::alloc::Layout;
use core::ffi::c_void;
use core::slice;

use crate::arrays::Arrays;
use crate::options::unknown;
use crate::status::*;
use kernel::Logits;

/// Element type of an array of logits. Results are those of the floats that the elements stand for, in the same bits;
/// gradients are with respect to these floats, and float.
pub type rwwce_logit_type = u32;

/// `float`
pub const RWWCE_LOGIT_F32: rwwce_logit_type = 0;
/// `int8_t`: an element q stands for scale·(q − zero point), as in ONNX and LiteRT, rounded once.
pub const RWWCE_LOGIT_I8: rwwce_logit_type = 1;
/// `uint8_t`, likewise.
pub const RWWCE_LOGIT_U8: rwwce_logit_type = 2;
/// IEEE 754 binary16: `_Float16`, or its bits in a `uint16_t`.
pub const RWWCE_LOGIT_F16: rwwce_logit_type = 3;
/// bfloat16: the upper half of the bits of a `float`, in a `uint16_t`.
pub const RWWCE_LOGIT_BF16: rwwce_logit_type = 4;

/// A validated type, with scale and zero point.
#[derive(Clone, Copy)]
pub(crate) struct LogitType {
    number: rwwce_logit_type,
    scale: f32,
    zero_point: i32,
}

impl LogitType {
    /// Validates the type; [`Logits::check`] validates scale and zero point.
    pub(crate) fn new(number: rwwce_logit_type, scale: f32, zero_point: i32) -> Result<Self, rwwce_error> {
        if number > RWWCE_LOGIT_BF16 {
            return Err(unknown(RWWCE_ARGUMENT_LOGIT_TYPE, number));
        }
        Ok(Self { number, scale, zero_point })
    }

    /// Refuses every type but float, for this call or together with argument `with`.
    pub(crate) fn float_alone(self, with: rwwce_argument) -> Result<(), rwwce_error> {
        if self.number != RWWCE_LOGIT_F32 {
            let wrong = rwwce_error::new(RWWCE_ERROR_INCOMPATIBLE, RWWCE_ARGUMENT_LOGIT_TYPE);
            return Err(rwwce_error { other_argument: with, ..wrong });
        }
        Ok(())
    }

    /// # Safety
    ///
    /// As [`Arrays::input`], for elements of this type.
    // Inlined as the options are.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) unsafe fn read<'a>(
        self,
        arrays: &mut Arrays,
        logits: *const c_void,
        count: usize,
    ) -> Result<Logits<'a>, rwwce_error> {
        let Self { number, scale, zero_point } = self;
        let element = match number {
            RWWCE_LOGIT_F32 => Layout::new::<f32>(),
            RWWCE_LOGIT_I8 | RWWCE_LOGIT_U8 => Layout::new::<u8>(),
            _ => Layout::new::<u16>(),
        };
        let (logits, count) = arrays.input_of(RWWCE_ARGUMENT_LOGITS, logits, count, element)?;
        // SAFETY: an array of such elements, as in `Arrays::input`; the 16-bit types are transparent over `u16`.
        unsafe {
            Ok(match number {
                RWWCE_LOGIT_F32 => Logits::F32(slice::from_raw_parts(logits.cast(), count)),
                RWWCE_LOGIT_I8 => Logits::I8 { values: slice::from_raw_parts(logits.cast(), count), scale, zero_point },
                RWWCE_LOGIT_U8 => Logits::U8 { values: slice::from_raw_parts(logits.cast(), count), scale, zero_point },
                RWWCE_LOGIT_F16 => Logits::F16(slice::from_raw_parts(logits.cast(), count)),
                _ => Logits::Bf16(slice::from_raw_parts(logits.cast(), count)),
            })
        }
    }
}

/// Converts logits of any type to float, into `numbers`, as many as there are logits: for functions whose logits are
/// `float *`. `logit_scale` and `logit_zero_point` are as in the options. A row too large for memory is converted,
/// given to `rwwce_row_partial_of` and merged part by part.
///
/// Every error leaves `numbers` unchanged. `numbers` must not overlap the logits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rwwce_widen(
    logits: *const c_void,
    logits_count: usize,
    logit_type: rwwce_logit_type,
    logit_scale: f32,
    logit_zero_point: i32,
    numbers: *mut f32,
    numbers_count: usize,
    error: *mut rwwce_error,
) -> rwwce_status {
    // SAFETY: see `arrays`.
    unsafe {
        report(error, || {
            let arrays = &mut Arrays::new();
            let logit_type = LogitType::new(logit_type, logit_scale, logit_zero_point)?;
            let logits = logit_type.read(arrays, logits, logits_count)?;
            let numbers = arrays.output(RWWCE_ARGUMENT_NUMBERS, numbers, numbers_count)?;
            logits.check()?;
            if numbers.len() != logits.len() {
                let wrong = rwwce_error::new(RWWCE_ERROR_LENGTH, RWWCE_ARGUMENT_NUMBERS);
                return Err(rwwce_error { expected: logits.len(), found: numbers.len(), ..wrong });
            }
            for (index, to) in numbers.iter_mut().enumerate() {
                *to = logits.get(index).unwrap_or(f32::NAN);
            }
            Ok(())
        })
    }
}
