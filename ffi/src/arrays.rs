//! Conversion of pointers and counts to slices, in this file alone.
//!
//! Preconditions that the caller of every C function promises, because they cannot be checked: a pointer that is not
//! NULL points to as many elements as the count beside it says (to one value where there is no count), readable, or
//! writable if the pointer is not to `const`, and no other thread writes them during the call. Checked are NULL,
//! alignment, sizes that overflow, and arrays that are written and overlap others.

use core::alloc::Layout;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::without_provenance;
use core::slice;

use crate::status::*;

/// The address ranges of the arrays of one call, to find overlaps.
pub(crate) struct Arrays {
    /// The first `count` are initialised.
    spans: [MaybeUninit<Span>; MOST],
    count: usize,
}

/// More arrays than any call has.
const MOST: usize = 12;

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    bytes: usize,
    written: bool,
    argument: rwwce_argument,
}

impl Span {
    /// The end address, which does not overflow.
    fn end(&self) -> usize {
        self.start.saturating_add(self.bytes)
    }
}

/// Error of an array, in the fields of [`rwwce_error`] that it needs.
struct Problem {
    status: rwwce_status,
    argument: rwwce_argument,
    other_argument: rwwce_argument,
    found: usize,
}

impl Problem {
    const fn new(status: rwwce_status, argument: rwwce_argument) -> Self {
        Self { status, argument, other_argument: RWWCE_ARGUMENT_NONE, found: 0 }
    }
}

impl From<Problem> for rwwce_error {
    #[inline(always)]
    fn from(problem: Problem) -> Self {
        let Problem { status, argument, other_argument, found } = problem;
        Self { other_argument, found, ..Self::new(status, argument) }
    }
}

impl Arrays {
    pub(crate) const fn new() -> Self {
        Self { spans: [const { MaybeUninit::uninit() }; MOST], count: 0 }
    }

    /// Input array; NULL is allowed for no elements.
    ///
    /// # Safety
    ///
    /// The preconditions at the head of this file.
    #[inline(always)]
    pub(crate) unsafe fn input<'a, T>(
        &mut self,
        argument: rwwce_argument,
        pointer: *const T,
        count: usize,
    ) -> Result<&'a [T], rwwce_error> {
        if self.check(argument, pointer, count, false)? {
            // SAFETY: not NULL, aligned, size in range, and no written array overlaps it; the rest is promised.
            return Ok(unsafe { slice::from_raw_parts(pointer, count) });
        }
        Ok(&[])
    }

    /// Input array of elements of this layout: its pointer, dangling for no elements, and its count.
    #[inline(always)]
    pub(crate) fn input_of(
        &mut self,
        argument: rwwce_argument,
        pointer: *const c_void,
        count: usize,
        element: Layout,
    ) -> Result<(*const c_void, usize), rwwce_error> {
        let found = self.check_bytes(argument, pointer.addr(), count, element, false)?;
        Ok(if found { (pointer, count) } else { (without_provenance(element.align()), 0) })
    }

    /// Optional input array: NULL with a count of 0 is none.
    ///
    /// # Safety
    ///
    /// As [`Arrays::input`].
    #[inline(always)]
    pub(crate) unsafe fn optional_input<'a, T>(
        &mut self,
        argument: rwwce_argument,
        pointer: *const T,
        count: usize,
    ) -> Result<Option<&'a [T]>, rwwce_error> {
        if pointer.is_null() && count == 0 {
            return Ok(None);
        }
        // SAFETY: as the caller has promised.
        unsafe { self.input(argument, pointer, count) }.map(Some)
    }

    /// Output array; NULL is allowed for no elements.
    ///
    /// # Safety
    ///
    /// As [`Arrays::input`].
    #[inline(always)]
    pub(crate) unsafe fn output<'a, T>(
        &mut self,
        argument: rwwce_argument,
        pointer: *mut T,
        count: usize,
    ) -> Result<&'a mut [T], rwwce_error> {
        if self.check(argument, pointer, count, true)? {
            // SAFETY: as in `input`, and no other array of the call overlaps it.
            return Ok(unsafe { slice::from_raw_parts_mut(pointer, count) });
        }
        Ok(&mut [])
    }

    /// Optional output array: NULL with a count of 0 is none.
    ///
    /// # Safety
    ///
    /// As [`Arrays::input`].
    #[inline(always)]
    pub(crate) unsafe fn optional_output<'a, T>(
        &mut self,
        argument: rwwce_argument,
        pointer: *mut T,
        count: usize,
    ) -> Result<Option<&'a mut [T]>, rwwce_error> {
        if pointer.is_null() && count == 0 {
            return Ok(None);
        }
        // SAFETY: as the caller has promised.
        unsafe { self.output(argument, pointer, count) }.map(Some)
    }

    /// Checks an array and notes its address range; `false` for no elements.
    #[inline(always)]
    fn check<T>(
        &mut self,
        argument: rwwce_argument,
        pointer: *const T,
        count: usize,
        written: bool,
    ) -> Result<bool, rwwce_error> {
        Ok(self.check_bytes(argument, pointer.addr(), count, Layout::new::<T>(), written)?)
    }

    /// [`Arrays::check`] without a type parameter, so that a small program contains it once.
    fn check_bytes(
        &mut self,
        argument: rwwce_argument,
        start: usize,
        count: usize,
        element: Layout,
        written: bool,
    ) -> Result<bool, Problem> {
        if count == 0 {
            return Ok(false);
        }
        check_address(start, element.align()).map_err(|status| Problem::new(status, argument))?;
        let bytes = count.checked_mul(element.size()).filter(|&bytes| bytes <= isize::MAX as usize);
        let Some(bytes) = bytes.filter(|&bytes| start.checked_add(bytes).is_some()) else {
            return Err(Problem { found: count, ..Problem::new(RWWCE_ERROR_SIZE_OVERFLOW, argument) });
        };
        self.note(Span { start, bytes, written, argument })?;
        Ok(true)
    }

    fn note(&mut self, new: Span) -> Result<(), Problem> {
        for old in self.spans.iter().take(self.count) {
            // SAFETY: one of the first `count`.
            let old = unsafe { old.assume_init_ref() };
            let apart = old.end() <= new.start || new.end() <= old.start;
            if !apart && (old.written || new.written) {
                let (first, second) = if new.written { (&new, old) } else { (old, &new) };
                let overlap = Problem::new(RWWCE_ERROR_OVERLAP, first.argument);
                return Err(Problem { other_argument: second.argument, ..overlap });
            }
        }
        if let Some(free) = self.spans.get_mut(self.count) {
            free.write(new);
            self.count = self.count.saturating_add(1);
        }
        Ok(())
    }
}

#[inline(always)]
fn check_pointer<T>(argument: rwwce_argument, pointer: *const T) -> Result<(), rwwce_error> {
    check_address(pointer.addr(), align_of::<T>()).map_err(|status| rwwce_error::new(status, argument))
}

#[inline(always)]
fn check_address(address: usize, alignment: usize) -> Result<(), rwwce_status> {
    if address == 0 {
        return Err(RWWCE_ERROR_NULL);
    }
    // Alignments are powers of two.
    if address & alignment.wrapping_sub(1) != 0 { Err(RWWCE_ERROR_MISALIGNED) } else { Ok(()) }
}

/// Reads one value.
///
/// # Safety
///
/// As [`Arrays::input`].
#[inline(always)]
pub(crate) unsafe fn value<T: Copy>(argument: rwwce_argument, pointer: *const T) -> Result<T, rwwce_error> {
    check_pointer(argument, pointer)?;
    // SAFETY: not NULL and aligned; the rest is promised.
    Ok(unsafe { *pointer })
}

/// Destination of one result, written once the call has succeeded.
pub(crate) struct Place<T>(*mut T);

impl Arrays {
    /// Destination of a result; nothing is written if it is NULL.
    #[inline(always)]
    pub(crate) fn optional_place<T>(&mut self, pointer: *mut T) -> Result<Place<T>, rwwce_error> {
        self.check(RWWCE_ARGUMENT_RESULT, pointer, usize::from(!pointer.is_null()), true)?;
        Ok(Place(pointer))
    }

    /// Destination of a result, not NULL.
    #[inline(always)]
    pub(crate) fn place<T>(&mut self, pointer: *mut T) -> Result<Place<T>, rwwce_error> {
        self.check(RWWCE_ARGUMENT_RESULT, pointer, 1, true)?;
        Ok(Place(pointer))
    }
}

impl<T> Place<T> {
    /// Destination that may overlap inputs, for calls that read every input before they write.
    #[inline(always)]
    pub(crate) fn alone(argument: rwwce_argument, pointer: *mut T) -> Result<Self, rwwce_error> {
        check_pointer(argument, pointer)?;
        Ok(Self(pointer))
    }

    /// Writes the value.
    ///
    /// # Safety
    ///
    /// As [`Arrays::input`]; no slice of this call is used afterwards.
    #[inline(always)]
    pub(crate) unsafe fn write(self, value: T) -> Result<(), rwwce_error> {
        if !self.0.is_null() {
            // SAFETY: aligned; the rest is promised.
            unsafe { self.0.write(value) };
        }
        Ok(())
    }
}
