//! The interface of a backend: a vector of f32, its masks, and some thirty operations on them.

/// Number of lanes of partial sums of a row, the same on every backend.
pub(crate) const VIRTUAL_LANES: usize = 16;

/// A computation in phases, functions that call [`Vector::run`]. Code between them, and code that rarely runs, is compiled
/// without the target features of the backend, and the compiler may inline it or not.
pub(crate) trait Driver {
    /// The result.
    type Output;
    /// Computes the result with the vectors of `s`.
    fn drive<S: Vector>(self, s: S) -> Self::Output;
}

/// A [`Vector`] of one lane.
pub(crate) trait OneLane: Vector<F = f32, U = u32, M = bool> {}

impl<S: Vector<F = f32, U = u32, M = bool>> OneLane for S {}

/// The vector instructions of one backend. A value is a proof that the processor has them.
///
/// Every operation is exact or correctly rounded, so that two backends with the same [`Vector::FUSED`] return the same
/// bits. Lanes interact only in the shuffles [`Vector::interleave`] and [`Vector::deinterleave`], and in the horizontal
/// [`Vector::horizontal_sums`], whose order is fixed.
pub(crate) trait Vector: Copy {
    /// Lanes of a vector: a divisor of [`VIRTUAL_LANES`].
    const LANES: usize;
    /// Whether a vector has several lanes.
    const WIDE: bool = Self::LANES > 1;
    /// Lanes of two vectors.
    const LANES_OF_TWO: usize = 2 * Self::LANES;
    /// Number of vectors in a column, one element for each virtual lane.
    const VECTORS_OF_A_COLUMN: usize = VIRTUAL_LANES / Self::LANES;
    /// Number of vectors in a column that hold virtual lanes 0 to 7.
    const VECTORS_OF_EIGHT_LANES: usize = 8_usize.div_ceil(Self::LANES);
    /// Whether [`Vector::mul_add`] rounds once.
    const FUSED: bool;
    /// A vector of f32.
    type F: Copy;
    /// A vector of the same number of u32.
    type U: Copy;
    /// A mask: the result of a comparison, lane by lane.
    type M: Copy;
    /// One lane, with the same rounding of a multiply-add.
    type Lane: OneLane;

    /// One lane.
    fn lane(self) -> Self::Lane;

    /// Vectors for the sums of short rows: of eight lanes, where sixteen would have to be taken apart at once.
    type Short: Vector;
    /// These vectors.
    fn short(self) -> Self::Short;

    /// Runs `phase` with the target features of this backend enabled. It and every function on vectors that it calls
    /// must be `#[inline(always)]`: only what is inlined is compiled with those features.
    fn run<R>(self, phase: impl FnOnce() -> R) -> R;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::F;
    /// `value` in every lane.
    fn splat_bits(self, value: u32) -> Self::U;
    /// `from[at..at + LANES]`; zeros where that is out of bounds, which matters to no caller.
    fn load(self, from: &[f32], at: usize) -> Self::F;
    /// `from[at..at + LANES]`; `None` where that is out of bounds.
    fn try_load(self, from: &[f32], at: usize) -> Option<Self::F>;
    /// Writes the lanes to `to[at..at + LANES]`; nothing where that is out of bounds, which no caller asks for.
    fn store(self, values: Self::F, to: &mut [f32], at: usize);

    /// a + b
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a − b
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a / b
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b + c, rounded once where [`Vector::FUSED`], else twice.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger of `x` and `floor`; NaN where `x` is NaN; where only `floor` is, `x` or NaN.
    fn at_least(self, x: Self::F, floor: Self::F) -> Self::F;
    /// The smaller of `x` and `ceiling`; NaN where `x` is NaN; where only `ceiling` is, `x` or NaN.
    fn at_most(self, x: Self::F, ceiling: Self::F) -> Self::F;

    /// a = b
    fn equal(self, a: Self::F, b: Self::F) -> Self::M;
    /// a < b, false where either is NaN
    fn less(self, a: Self::F, b: Self::F) -> Self::M;
    /// `yes` where `mask` is set, else `no`
    fn select(self, mask: Self::M, yes: Self::F, no: Self::F) -> Self::F;
    /// 0 where `mask` is set, else `values`
    #[inline(always)]
    fn zero_where(self, mask: Self::M, values: Self::F) -> Self::F {
        self.select(mask, self.splat(0.0), values)
    }

    /// Interleaves a and b, a first: their lower halves, and their upper halves. One lane: a and b.
    fn interleave(self, a: Self::F, b: Self::F) -> (Self::F, Self::F);
    /// Deinterleaves, the inverse of [`Vector::interleave`]: the even lanes of a and then of b, and the odd lanes.
    fn deinterleave(self, a: Self::F, b: Self::F) -> (Self::F, Self::F);

    /// Rows of three elements, one after the other, to a stride of four: lane 3i + j becomes lane 4i + j for j < 3.
    /// One row, as many as four lanes have, is the same at any stride.
    #[inline(always)]
    fn threes_to_fours(self, a: Self::F) -> Self::F {
        a
    }
    /// The inverse of [`Vector::threes_to_fours`]: lane 4i + j becomes lane 3i + j for j < 3. The last quarter of the lanes
    /// may have any values.
    #[inline(always)]
    fn fours_to_threes(self, a: Self::F) -> Self::F {
        a
    }

    /// Transposes rows of four elements, one after the other in four vectors, to four columns. Only for vectors.
    #[inline(always)]
    fn fours_to_columns(self, rows: [Self::F; 4]) -> [Self::F; 4] {
        columns_of_fours(
            rows,
            #[inline(always)]
            |a, b| self.deinterleave(a, b),
        )
    }
    /// The inverse of [`Vector::fours_to_columns`].
    #[inline(always)]
    fn columns_to_fours(self, columns: [Self::F; 4]) -> [Self::F; 4] {
        fours_of_columns(
            columns,
            #[inline(always)]
            |a, b| self.interleave(a, b),
        )
    }

    /// Lanes j and j + 8 of sixteen, added, then eight zeros. Only for sixteen lanes.
    #[inline(always)]
    fn add_halves(self, a: Self::F) -> Self::F {
        a
    }
    /// The larger of lanes j and j + 8 of sixteen, then the sum of the smaller one and of those lanes of b. Only for sixteen
    /// lanes.
    #[inline(always)]
    fn halves_apart(self, [a, _b]: [Self::F; 2]) -> Self::F {
        a
    }

    /// Horizontal sums of `LANES` rows, each of the 16 virtual lanes of a column: lanes j and j + 8, j and j + 4, j and
    /// j + 2, 0 and 1 are added in f64.
    fn horizontal_sums(self, of: &[Self::F; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES];
    /// [`Vector::horizontal_sums`] of rows of 8 virtual lanes, or of 16 in one vector, whose lanes j and j + 8 are added in
    /// f32; in [`Vector::VECTORS_OF_EIGHT_LANES`] vectors.
    fn sums_of_eights(self, of: &[Self::F; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES];

    /// The bits of each lane.
    fn to_bits(self, a: Self::F) -> Self::U;
    /// The f32 with these bits.
    fn of_bits(self, a: Self::U) -> Self::F;
    /// a + b, wrapping
    fn add_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// a − b, wrapping
    fn sub_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// a & b
    fn and_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// a | b
    fn or_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// a ^ b
    fn xor_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// Whether any bit of any lane is set.
    fn any_bit(self, a: Self::U) -> bool;
    /// a << N
    fn shift_left<const N: u32>(self, a: Self::U) -> Self::U;
    /// a >> N, filled with zeros
    fn shift_right<const N: u32>(self, a: Self::U) -> Self::U;

    /// The elements of a table whose indices are the low three bits of each lane.
    fn lookup(self, table: &[u32; 8], indices: Self::U) -> Self::U;

    /// Prefetches the cache line of `from[at]`, which may be out of bounds; by default does nothing.
    #[inline(always)]
    fn prefetch(self, _from: &[f32], _at: usize) {}

    /// A bit mask: bit i is lane i of `mask`.
    #[inline(always)]
    fn bits_of_mask(self, mask: Self::M) -> u32 {
        let lanes = self.to_array(self.select(mask, self.splat(1.0), self.splat(0.0)));
        lanes.iter().rev().fold(0, |bits, &lane| bits << 1 | u32::from(lane != 0.0))
    }

    /// The mask of the first `count` lanes.
    #[inline(always)]
    fn first_lanes(self, count: usize) -> Self::M {
        self.less(self.lanes(), self.splat(count.min(VIRTUAL_LANES) as f32))
    }

    /// The index of each lane.
    #[inline(always)]
    fn lanes(self) -> Self::F {
        self.load(&INDICES, 0)
    }

    /// The first `LANES` elements of `from`; `fill` in the lanes beyond its end.
    #[inline(always)]
    fn load_partial(self, from: &[f32], fill: f32) -> Self::F {
        self.try_load(from, 0).unwrap_or_else(|| {
            let mut lanes = [fill; VIRTUAL_LANES];
            for (lane, &element) in lanes.iter_mut().zip(from) {
                *lane = element;
            }
            self.load(&lanes, 0)
        })
    }

    /// Stores the first lanes, as many as `to` has elements.
    #[inline(always)]
    fn store_partial(self, values: Self::F, to: &mut [f32]) {
        if to.len() >= Self::LANES {
            return self.store(values, to, 0);
        }
        for (element, lane) in to.iter_mut().zip(self.to_array(values)) {
            *element = lane;
        }
    }

    /// The lanes, zero-filled.
    #[inline(always)]
    fn to_array(self, values: Self::F) -> [f32; VIRTUAL_LANES] {
        let mut lanes = [0.0; VIRTUAL_LANES];
        self.store(values, &mut lanes, 0);
        lanes
    }
}

/// [`Vector::fours_to_columns`] of any vectors.
#[inline(always)]
pub(super) fn columns_of_fours<F>([a, b, c, d]: [F; 4], deinterleave: impl Fn(F, F) -> (F, F)) -> [F; 4] {
    let ((a, b), (c, d)) = (deinterleave(a, b), deinterleave(c, d));
    let ((first, third), (second, fourth)) = (deinterleave(a, c), deinterleave(b, d));
    [first, second, third, fourth]
}

/// [`Vector::columns_to_fours`] of any vectors.
#[inline(always)]
pub(super) fn fours_of_columns<F>([a, b, c, d]: [F; 4], interleave: impl Fn(F, F) -> (F, F)) -> [F; 4] {
    let ((a, c), (b, d)) = (interleave(a, c), interleave(b, d));
    let ((first, second), (third, fourth)) = (interleave(a, b), interleave(c, d));
    [first, second, third, fourth]
}

/// Lane indices.
const INDICES: [f32; VIRTUAL_LANES] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];
