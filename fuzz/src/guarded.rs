//! Memory whose first byte and whose end are each beside a page that must not be touched.

use std::ptr;

/// One mapping: a page that faults, as many bytes as there may be, a page that faults.
struct Region(*mut u8);

const PAGE: usize = 4096;
const SIZE: usize = 4 * PAGE;
/// As many bytes of the region beside the data hold a pattern.
const MARGIN: usize = 64;
const PATTERN: u8 = 0xa7;

impl Region {
    /// An allocation of its own, where every access is interpreted and the ends of allocations are guards.
    #[cfg(miri)]
    fn new() -> Self {
        // SAFETY: of some bytes.
        Self(unsafe { std::alloc::alloc(Self::LAYOUT) })
    }

    #[cfg(not(miri))]
    fn new() -> Self {
        // SAFETY: a new private mapping of two guards and what is between them.
        unsafe {
            let (protection, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let start = libc::mmap(ptr::null_mut(), SIZE + 2 * PAGE, protection, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED, "no memory");
            let inside = start.byte_add(PAGE);
            assert_eq!(libc::mprotect(inside, SIZE, libc::PROT_READ | libc::PROT_WRITE), 0);
            Self(inside.cast())
        }
    }
}

#[cfg(miri)]
impl Region {
    const LAYOUT: std::alloc::Layout = match std::alloc::Layout::from_size_align(SIZE, PAGE) {
        Ok(layout) => layout,
        Err(_) => panic!("a page"),
    };
}

#[cfg(miri)]
impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated as such.
        unsafe { std::alloc::dealloc(self.0, Self::LAYOUT) }
    }
}

thread_local! {
    /// Regions that have been used and are free again.
    static FREE: std::cell::RefCell<Vec<Region>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Bytes in a region of their own, against one of its ends.
pub(crate) struct Guarded {
    region: Option<Region>,
    start: usize,
    len: usize,
}

impl Guarded {
    /// A copy of these numbers that ends where the region does, or starts where it does.
    pub(crate) fn new<T: Copy>(numbers: &[T], at_end: bool) -> Self {
        let len = size_of_val(numbers);
        assert!(len <= SIZE - 2 * MARGIN, "{len} bytes are too many");
        let region = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(Region::new);
        let start = if at_end { SIZE - len } else { 0 };
        let this = Self { start, len, region: Some(region) };
        // SAFETY: within the region; a multiple of the size of a number from its end, so aligned where that matters.
        unsafe {
            ptr::write_bytes(this.margin(), PATTERN, MARGIN);
            ptr::copy_nonoverlapping(numbers.as_ptr().cast::<u8>(), this.address(), len);
        }
        this
    }

    /// The first of the bytes on the side that has no guard.
    fn margin(&self) -> *mut u8 {
        let start = if self.start == 0 { self.len } else { self.start - MARGIN };
        // SAFETY: within the region, as `new` makes sure.
        unsafe { self.region().add(start) }
    }

    fn region(&self) -> *mut u8 {
        self.region.as_ref().expect("until it is dropped").0
    }

    pub(crate) fn address(&self) -> *mut u8 {
        // SAFETY: within the region.
        unsafe { self.region().add(self.start) }
    }

    /// The numbers that are there now, and whether nothing beside them has been written.
    pub(crate) fn read<T: Copy>(&self) -> (Vec<T>, bool) {
        // SAFETY: numbers were written there, of which any bytes are some.
        unsafe {
            let first = self.address().cast::<T>();
            let numbers = (0..self.len / size_of::<T>()).map(|at| first.add(at).read_unaligned()).collect();
            (numbers, (0..MARGIN).all(|at| *self.margin().add(at) == PATTERN))
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        FREE.with_borrow_mut(|free| free.extend(self.region.take()));
    }
}
