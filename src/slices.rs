//! Slices split in two, for calls that are split over threads.

/// The elements before `at` and those from `at` on; all elements and none if `at` is out of bounds.
pub(crate) fn split<T>(slice: &[T], at: usize) -> (&[T], &[T]) {
    slice.split_at_checked(at).unwrap_or((slice, &[]))
}

/// [`split`], each part passed through `of`.
pub(crate) fn split_into<'a, T, U>(slice: &'a [T], at: usize, of: impl Fn(&'a [T]) -> U) -> (U, U) {
    let (first, others) = split(slice, at);
    (of(first), of(others))
}

/// The mutable form of [`split`].
pub(crate) fn split_mut<T>(slice: &mut [T], at: usize) -> (&mut [T], &mut [T]) {
    if at <= slice.len() { slice.split_at_mut(at) } else { (slice, &mut []) }
}
