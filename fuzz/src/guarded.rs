//! Memory between two guard pages, which fault on access.

use std::ptr;

/// One mapping: a guard page, [`SIZE`] bytes, to which it points, and another guard page.
struct Region(*mut u8);

const PAGE: usize = 4096;
const SIZE: usize = 4 * PAGE;
/// Bytes beside the data, on the side without a guard page, that hold a pattern.
const MARGIN: usize = 64;
const PATTERN: u8 = 0xa7;

impl Region {
    /// An allocation of its own: under Miri its ends are guards.
    #[cfg(miri)]
    fn new() -> Self {
        // SAFETY: the layout is not empty.
        Self(unsafe { std::alloc::alloc(Self::LAYOUT) })
    }

    #[cfg(not(miri))]
    fn new() -> Self {
        // SAFETY: a new private mapping of two guard pages and the bytes between them.
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
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.0, Self::LAYOUT) }
    }
}

thread_local! {
    /// Regions that can be reused.
    static FREE: std::cell::RefCell<Vec<Region>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Bytes in a region of their own, against one of its ends.
pub(crate) struct Guarded {
    region: Option<Region>,
    start: usize,
    len: usize,
}

impl Guarded {
    /// A copy of `numbers` against the end or the start of a region.
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

    /// The start of the pattern, on the side without a guard page.
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

    /// The current elements, and whether the pattern beside them is intact.
    pub(crate) fn read<T: Copy>(&self) -> (Vec<T>, bool) {
        // SAFETY: elements of a type were written there for which any bytes are valid.
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
