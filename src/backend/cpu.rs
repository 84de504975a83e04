//! What the processor *and* the operating system support, asked with `core` alone.
//!
//! The processor may have AVX while the operating system does not save its registers on a task switch; then the first
//! such instruction ends the program. Intel's manual (volume 1, sections 14.3 and 15.2) gives the order of the
//! questions: CPUID says that `xgetbv` works, `xgetbv` says which registers are saved, and only then do the
//! bits of the instruction sets count.

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// XCR0: the operating system saves the xmm and ymm registers.
const YMM_SAVED: u64 = 0b110;
/// XCR0: it saves the mask registers and the zmm registers as well.
const ZMM_SAVED: u64 = 0b1110_0110;

/// The vector instruction sets that may be used, as the names of the x86-64 levels have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// SSE2: every x86-64.
    V1,
    /// AVX2, FMA, BMI1, BMI2, LZCNT, POPCNT and all before them.
    V3,
    /// AVX-512 F, BW, CD, DQ and VL as well.
    V4,
}

const fn bits(positions: &[u32]) -> u32 {
    let mut mask = 0;
    let mut i = 0;
    while i < positions.len() {
        mask |= 1 << positions[i];
        i += 1;
    }
    mask
}

/// SSE3, SSSE3, FMA, SSE4.1, SSE4.2, POPCNT, OSXSAVE, AVX
const LEAF_1_ECX: u32 = bits(&[0, 9, 12, 19, 20, 23, 27, 28]);
/// FXSR, SSE, SSE2
const LEAF_1_EDX: u32 = bits(&[24, 25, 26]);
/// BMI1, AVX2, BMI2
const LEAF_7_EBX_V3: u32 = bits(&[3, 5, 8]);
/// AVX512F, AVX512DQ, AVX512CD, AVX512BW, AVX512VL
const LEAF_7_EBX_V4: u32 = bits(&[16, 17, 28, 30, 31]);
/// LZCNT
const EXTENDED_1_ECX: u32 = bits(&[5]);

const fn has(register: u32, mask: u32) -> bool {
    register & mask == mask
}

// Safe functions from Rust 1.94 on: there the unsafe blocks are needless.
#[allow(unused_unsafe)]
pub(super) fn detect() -> Level {
    // SAFETY: every x86-64 has the CPUID instruction.
    let cpuid = |leaf| unsafe { __cpuid(leaf) };
    if cpuid(0).eax < 7 || cpuid(0x8000_0000).eax < 0x8000_0001 {
        return Level::V1;
    }
    let leaf_1 = cpuid(1);
    // SAFETY: as above.
    let leaf_7 = unsafe { __cpuid_count(7, 0) };
    if !has(leaf_1.ecx, LEAF_1_ECX)
        || !has(leaf_1.edx, LEAF_1_EDX)
        || !has(leaf_7.ebx, LEAF_7_EBX_V3)
        || !has(cpuid(0x8000_0001).ecx, EXTENDED_1_ECX)
    {
        return Level::V1;
    }
    let saved = saved_registers();
    if saved & YMM_SAVED != YMM_SAVED {
        Level::V1
    } else if has(leaf_7.ebx, LEAF_7_EBX_V4) && saved & ZMM_SAVED == ZMM_SAVED {
        Level::V4
    } else {
        Level::V3
    }
}

/// XCR0. Only to be called where CPUID reports OSXSAVE.
fn saved_registers() -> u64 {
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 exists wherever the instruction does.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: the caller has seen OSXSAVE, which says that the operating system enabled `xgetbv`.
    unsafe { xcr0() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::is_x86_feature_detected;

    #[test]
    fn agrees_with_the_standard_library() {
        let v3 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        let v4 = v3
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let expected = match (v3, v4) {
            (_, true) => Level::V4,
            (true, _) => Level::V3,
            _ => Level::V1,
        };
        assert_eq!(detect(), expected);
    }
}
