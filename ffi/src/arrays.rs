//! Pointers and counts become slices here, and nowhere else.
//!
//! What the caller of every C function promises, and what cannot be checked: a pointer that is not NULL points to as many
//! elements as the count beside it says (to one value where there is no count), which may be read, or written if
//! the pointer is not to `const`, and which no other thread writes during the call. What can be checked is: NULL,
//! alignment, sizes that overflow, and arrays that are written and overlap others.

use core::slice;

use crate::status::*;

/// The arrays of one call.
pub(crate) struct Arrays {
    spans: [Span; MOST],
    count: usize,
}

/// More than any call has.
const MOST: usize = 12;

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    bytes: usize,
    written: bool,
    argument: rwwce_argument,
}

impl Arrays {
    pub(crate) const fn new() -> Self {
        Self { spans: [Span { start: 0, bytes: 0, written: false, argument: 0 }; MOST], count: 0 }
    }

    /// An array that is read; NULL will do for no elements.
    ///
    /// # Safety
    ///
    /// What the caller of every function promises; see the head of this file.
    #[inline(always)]
    pub(crate) unsafe fn input<'a, T>(
        &mut self,
        argument: rwwce_argument,
        pointer: *const T,
        count: usize,
    ) -> Result<&'a [T], rwwce_error> {
        if self.check(argument, pointer, count, false)? {
            // SAFETY: not NULL, aligned, and its size does not overflow; the rest is promised. What is written to does not
            // overlap it.
            return Ok(unsafe { slice::from_raw_parts(pointer, count) });
        }
        Ok(&[])
    }

    /// An array that is read if there is one: NULL with a count of 0 is none.
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

    /// An array that is written; NULL will do for no elements.
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
            // SAFETY: as in `input`, and nothing else that this call has overlaps it.
            return Ok(unsafe { slice::from_raw_parts_mut(pointer, count) });
        }
        Ok(&mut [])
    }

    /// An array that is written if there is one: NULL with a count of 0 is none.
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

    /// Whether there is anything at the pointer.
    #[inline(always)]
    fn check<T>(
        &mut self,
        argument: rwwce_argument,
        pointer: *const T,
        count: usize,
        written: bool,
    ) -> Result<bool, rwwce_error> {
        if count == 0 {
            return Ok(false);
        }
        check_pointer(argument, pointer)?;
        let most = isize::MAX as usize / size_of::<T>();
        let start = pointer.addr();
        let bytes = count.wrapping_mul(size_of::<T>());
        if count > most || start.checked_add(bytes).is_none() {
            return Err(rwwce_error { found: count, ..rwwce_error::new(RWWCE_ERROR_SIZE_OVERFLOW, argument) });
        }
        self.note(Span { start, bytes, written, argument })?;
        Ok(true)
    }

    fn note(&mut self, new: Span) -> Result<(), rwwce_error> {
        for old in self.spans.iter().take(self.count) {
            let apart = old.start + old.bytes <= new.start || new.start + new.bytes <= old.start;
            if !apart && (old.written || new.written) {
                let (first, second) = if new.written { (new, *old) } else { (*old, new) };
                let error = rwwce_error::new(RWWCE_ERROR_OVERLAP, first.argument);
                return Err(rwwce_error { other_argument: second.argument, ..error });
            }
        }
        if let Some(free) = self.spans.get_mut(self.count) {
            *free = new;
            self.count += 1;
        }
        Ok(())
    }
}

#[inline(always)]
fn check_pointer<T>(argument: rwwce_argument, pointer: *const T) -> Result<(), rwwce_error> {
    if pointer.is_null() {
        return Err(rwwce_error::new(RWWCE_ERROR_NULL, argument));
    }
    if !pointer.is_aligned() {
        return Err(rwwce_error::new(RWWCE_ERROR_MISALIGNED, argument));
    }
    Ok(())
}

/// One value that is read.
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

/// Where one value is written, once the call has succeeded.
pub(crate) struct Place<T>(*mut T);

impl Arrays {
    /// A place for a result, which may be NULL: then nothing is written.
    #[inline(always)]
    pub(crate) fn optional_place<T>(&mut self, pointer: *mut T) -> Result<Place<T>, rwwce_error> {
        self.check(RWWCE_ARGUMENT_RESULT, pointer, usize::from(!pointer.is_null()), true)?;
        Ok(Place(pointer))
    }

    /// A place for a result, which may not be NULL.
    #[inline(always)]
    pub(crate) fn place<T>(&mut self, pointer: *mut T) -> Result<Place<T>, rwwce_error> {
        self.check(RWWCE_ARGUMENT_RESULT, pointer, 1, true)?;
        Ok(Place(pointer))
    }
}

impl<T> Place<T> {
    /// A place for what has been read as a whole before anything is written, and so may overlap it.
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
