//! One lane: any processor, in plain Rust.

use super::vector::{VIRTUAL_LANES, Vector};

/// The multiply-add of one lane: fused or not.
pub(super) trait MulAdd: Copy {
    /// Whether a multiply-add rounds once.
    const FUSED: bool;

    /// a · b + c
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32;
}

/// Rounds twice.
#[derive(Clone, Copy)]
pub(super) struct Unfused;

impl MulAdd for Unfused {
    const FUSED: bool = false;
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// Rounds once, as the vector backends with FMA do.
#[derive(Clone, Copy)]
pub(super) struct Fused;

impl MulAdd for Fused {
    const FUSED: bool = true;
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        fused(a, b, c)
    }
}

/// Whether [`Fused`] is one instruction, as set with `--cfg rwwce_vfma` for a Cortex-M with FPU: no stable `cfg` tells.
pub(super) const HARDWARE_FMA: bool = cfg!(any(rwwce_vfma, rwwce_vfma = "sreg"));

/// The faster multiply-add of the target.
#[cfg(any(rwwce_vfma, rwwce_vfma = "sreg"))]
#[allow(dead_code, reason = "for targets without vectors")]
pub(super) const OF_TARGET: Fused = Fused;
#[cfg(not(any(rwwce_vfma, rwwce_vfma = "sreg")))]
#[allow(dead_code, reason = "for targets without vectors")]
pub(super) const OF_TARGET: Unfused = Unfused;

/// Inline assembly, since `core` has no function for the instruction. Stable compilers take FPU registers as operands
/// only with an unstable target feature, and as clobbers without: values pass through core registers.
#[cfg(all(rwwce_vfma, not(rwwce_vfma = "sreg")))]
#[inline(always)]
fn fused(a: f32, b: f32, mut c: f32) -> f32 {
    // SAFETY: the instructions only read and write these registers, and `rwwce_vfma` says that the target has them.
    unsafe {
        core::arch::asm!("vmov s0, s1, {a}, {b}", "vmov s2, {c}", "vfma.f32 s2, s0, s1", "vmov {c}, s2",
            a = in(reg) a, b = in(reg) b, c = inout(reg) c, out("s0") _, out("s1") _, out("s2") _,
            options(pure, nomem, nostack, preserves_flags));
    }
    c
}

/// With `-Ctarget-feature=+vfp2,-fp64` FPU registers can be operands, at the price of a warning for every crate.
#[cfg(rwwce_vfma = "sreg")]
#[inline(always)]
fn fused(a: f32, b: f32, mut c: f32) -> f32 {
    // SAFETY: the instruction only reads and writes these registers, and `rwwce_vfma` says that the target has it.
    unsafe {
        core::arch::asm!("vfma.f32 {}, {}, {}", inout(sreg) c, in(sreg) a, in(sreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    c
}

/// FMA in software, outlined: too long to be inlined a dozen times per exponential.
#[cfg(not(any(rwwce_vfma, rwwce_vfma = "sreg")))]
#[inline(never)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    libm::fmaf(a, b, c)
}

/// One f32 at a time.
#[derive(Clone, Copy)]
pub(super) struct Scalar<A>(pub(super) A);

impl<A: MulAdd> Vector for Scalar<A> {
    const LANES: usize = 1;
    const FUSED: bool = A::FUSED;
    type F = f32;
    type U = u32;
    type M = bool;
    type Lane = Self;

    #[inline(always)]
    fn lane(self) -> Self {
        self
    }

    type Short = Self;
    #[inline(always)]
    fn short(self) -> Self {
        self
    }

    // Outlined, as in the other backends.
    #[inline(never)]
    fn run<R>(self, phase: impl FnOnce() -> R) -> R {
        phase()
    }
    #[inline(always)]
    fn splat(self, value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn splat_bits(self, value: u32) -> u32 {
        value
    }
    #[inline(always)]
    fn load(self, from: &[f32], at: usize) -> f32 {
        from.get(at).copied().unwrap_or(0.0)
    }
    #[inline(always)]
    fn try_load(self, from: &[f32], at: usize) -> Option<f32> {
        from.get(at).copied()
    }
    #[inline(always)]
    fn store(self, values: f32, to: &mut [f32], at: usize) {
        if let Some(lane) = to.get_mut(at) {
            *lane = values;
        }
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        self.0.mul_add(a, b, c)
    }
    #[inline(always)]
    fn at_least(self, x: f32, floor: f32) -> f32 {
        if x < floor { floor } else { x }
    }
    #[inline(always)]
    fn at_most(self, x: f32, ceiling: f32) -> f32 {
        if x > ceiling { ceiling } else { x }
    }
    #[inline(always)]
    fn equal(self, a: f32, b: f32) -> bool {
        a == b
    }
    #[inline(always)]
    fn less(self, a: f32, b: f32) -> bool {
        a < b
    }
    #[inline(always)]
    fn select(self, mask: bool, yes: f32, no: f32) -> f32 {
        if mask { yes } else { no }
    }
    #[inline(always)]
    fn bits_of_mask(self, mask: bool) -> u32 {
        u32::from(mask)
    }
    #[inline(always)]
    fn interleave(self, a: f32, b: f32) -> (f32, f32) {
        (a, b)
    }
    #[inline(always)]
    fn deinterleave(self, a: f32, b: f32) -> (f32, f32) {
        (a, b)
    }
    #[inline(always)]
    fn horizontal_sums(self, of: &[f32; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let [a, b, c, d, e, f, g, h, others @ ..] = of.map(f64::from);
        let [i, j, k, l, m, n, o, p] = others;
        let mut sums = [0.0; VIRTUAL_LANES];
        sums[0] = (((a + i) + (e + m)) + ((c + k) + (g + o))) + (((b + j) + (f + n)) + ((d + l) + (h + p)));
        sums
    }
    #[inline(always)]
    fn sums_of_eights(self, of: &[f32; VIRTUAL_LANES]) -> [f64; VIRTUAL_LANES] {
        let [a, b, c, d, e, f, g, h, ..] = of.map(f64::from);
        let mut sums = [0.0; VIRTUAL_LANES];
        sums[0] = ((a + e) + (c + g)) + ((b + f) + (d + h));
        sums
    }
    #[inline(always)]
    fn to_bits(self, a: f32) -> u32 {
        a.to_bits()
    }
    #[inline(always)]
    fn of_bits(self, a: u32) -> f32 {
        f32::from_bits(a)
    }
    #[inline(always)]
    fn add_bits(self, a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn sub_bits(self, a: u32, b: u32) -> u32 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn and_bits(self, a: u32, b: u32) -> u32 {
        a & b
    }
    #[inline(always)]
    fn or_bits(self, a: u32, b: u32) -> u32 {
        a | b
    }
    #[inline(always)]
    fn xor_bits(self, a: u32, b: u32) -> u32 {
        a ^ b
    }
    #[inline(always)]
    fn lookup(self, table: &[u32; 8], index: u32) -> u32 {
        table.get((index & 7) as usize).copied().unwrap_or(0)
    }
    #[inline(always)]
    fn any_bit(self, a: u32) -> bool {
        a != 0
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, a: u32) -> u32 {
        a << N
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, a: u32) -> u32 {
        a >> N
    }
}
