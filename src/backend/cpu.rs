//! Detection of the instruction sets that the processor *and* the operating system support, with `core` alone.
//!
//! The processor may have AVX while the operating system does not save the registers of AVX on a task switch; then the
//! first AVX instruction ends the program. Intel's manual (volume 1, sections 14.3 and 15.2) gives the order of checks:
//! CPUID (OSXSAVE) says that `xgetbv` works, `xgetbv` says which registers are saved, and only then do the feature bits
//! of the instruction sets count.

use core::arch::x86_64::{__cpuid_count, _xgetbv, CpuidResult};

/// XCR0: the operating system saves the xmm and ymm registers.
const YMM_SAVED: u64 = 0b110;
/// XCR0: the operating system saves the mask and zmm registers as well.
const ZMM_SAVED: u64 = 0b1110_0110;

/// The x86-64 microarchitecture level whose instructions may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// SSE2: every x86-64.
    V1,
    /// AVX2, FMA, BMI1, BMI2, LZCNT, POPCNT and all before them.
    V3,
    /// AVX-512 F, BW, CD, DQ and VL as well.
    V4,
}

const fn bits(mut positions: &[u32]) -> u32 {
    let mut mask = 0;
    while let [position, rest @ ..] = positions {
        mask |= 1_u32.wrapping_shl(*position);
        positions = rest;
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

pub(super) fn detect() -> Level {
    // Miri, which interprets no CPUID, has the instructions that every x86-64 has.
    if cfg!(miri) { Level::V1 } else { level(cpuid, saved_registers) }
}

/// The level by CPUID and XCR0. `cpuid` is called only for leaves that the processor reports, `saved_registers` (XCR0)
/// only where OSXSAVE is reported.
fn level(cpuid: impl Fn(u32) -> CpuidResult, saved_registers: impl FnOnce() -> u64) -> Level {
    if cpuid(0).eax < 7 || cpuid(0x8000_0000).eax < 0x8000_0001 {
        return Level::V1;
    }
    let leaf_1 = cpuid(1);
    let leaf_7 = cpuid(7);
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

/// CPUID of a leaf, of its sub-leaf 0 where it has several.
// Safe from Rust 1.94 on: there the unsafe block is needless.
#[allow(unused_unsafe)]
fn cpuid(leaf: u32) -> CpuidResult {
    // SAFETY: every x86-64 has the CPUID instruction.
    unsafe { __cpuid_count(leaf, 0) }
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
    use core::cell::Cell;
    use std::vec::Vec;
    use std::{is_x86_feature_detected, println};

    /// The register that reports a feature.
    #[derive(Clone, Copy, PartialEq)]
    enum Register {
        Leaf1Ecx,
        Leaf1Edx,
        Leaf7Ebx,
        Extended1Ecx,
        Xcr0,
    }
    use Register::*;

    /// Features that AVX2 needs, by the tables of Intel's manual (volume 2, CPUID; volume 1, section 13.3).
    const OF_V3: [(&str, Register, u32); 17] = [
        ("SSE3", Leaf1Ecx, 0),
        ("SSSE3", Leaf1Ecx, 9),
        ("FMA", Leaf1Ecx, 12),
        ("SSE4.1", Leaf1Ecx, 19),
        ("SSE4.2", Leaf1Ecx, 20),
        ("POPCNT", Leaf1Ecx, 23),
        ("OSXSAVE", Leaf1Ecx, 27),
        ("AVX", Leaf1Ecx, 28),
        ("FXSR", Leaf1Edx, 24),
        ("SSE", Leaf1Edx, 25),
        ("SSE2", Leaf1Edx, 26),
        ("BMI1", Leaf7Ebx, 3),
        ("AVX2", Leaf7Ebx, 5),
        ("BMI2", Leaf7Ebx, 8),
        ("LZCNT", Extended1Ecx, 5),
        ("xmm saved", Xcr0, 1),
        ("ymm saved", Xcr0, 2),
    ];
    /// Features that AVX-512 needs beside them.
    const OF_V4: [(&str, Register, u32); 8] = [
        ("AVX512F", Leaf7Ebx, 16),
        ("AVX512DQ", Leaf7Ebx, 17),
        ("AVX512CD", Leaf7Ebx, 28),
        ("AVX512BW", Leaf7Ebx, 30),
        ("AVX512VL", Leaf7Ebx, 31),
        ("opmask saved", Xcr0, 5),
        ("upper zmm saved", Xcr0, 6),
        ("zmm16 to zmm31 saved", Xcr0, 7),
    ];

    const ALL_OF_V3: u32 = (1 << OF_V3.len()) - 1;
    const ALL: u32 = (1 << (OF_V3.len() + OF_V4.len())) - 1;

    /// The value of each [`Register`].
    type Registers = [u64; 5];

    /// The registers for a set of features; bit i is feature i of the concatenated lists.
    fn registers(set: u32) -> Registers {
        let mut registers = [0; 5];
        for (index, &(_, register, bit)) in OF_V3.iter().chain(&OF_V4).enumerate() {
            registers[register as usize] |= u64::from(set >> index & 1) << bit;
        }
        registers
    }

    /// A simulated processor.
    #[derive(Clone, Copy)]
    struct Processor {
        /// The last leaf, and the last extended one.
        leaves: [u32; 2],
        registers: Registers,
    }

    impl Processor {
        /// The level that is chosen. Panics at a leaf that this processor lacks, or at `xgetbv` without OSXSAVE.
        fn level(&self) -> Level {
            let [leaf_1_ecx, leaf_1_edx, leaf_7_ebx, extended_1_ecx, xcr0] = self.registers;
            let [last, last_extended] = self.leaves;
            let cpuid = |leaf: u32| {
                assert!(leaf <= last || leaf == 0x8000_0000 || (0x8000_0000..=last_extended).contains(&leaf));
                let mut answer = CpuidResult { eax: u32::MAX, ebx: u32::MAX, ecx: u32::MAX, edx: u32::MAX };
                match leaf {
                    0 => answer.eax = last,
                    1 => (answer.ecx, answer.edx) = (leaf_1_ecx as u32, leaf_1_edx as u32),
                    7 => answer.ebx = leaf_7_ebx as u32,
                    0x8000_0000 => answer.eax = last_extended,
                    0x8000_0001 => answer.ecx = extended_1_ecx as u32,
                    _ => {}
                }
                answer
            };
            let asked = Cell::new(false);
            let level = level(cpuid, || {
                assert!(leaf_1_ecx >> 27 & 1 == 1, "xgetbv ends the program where there is no OSXSAVE");
                asked.set(true);
                xcr0
            });
            assert!(level == Level::V1 || asked.get(), "nobody asked which registers are saved");
            level
        }
    }

    /// The model: a level needs all features of its lists.
    fn expected(set: u32) -> Level {
        match (set & ALL_OF_V3 == ALL_OF_V3, set == ALL) {
            (true, true) => Level::V4,
            (true, false) => Level::V3,
            _ => Level::V1,
        }
    }

    const LEAVES: [u32; 2] = [7, 0x8000_0001];

    #[test]
    fn no_level_is_chosen_of_which_anything_is_missing() {
        let known = registers(ALL);
        let of_v3: Vec<Registers> = (0..=ALL_OF_V3).map(registers).collect();
        let mut subsets = [0u32; 3];
        for upper in (0..=ALL).step_by(of_v3.len()) {
            let of_v4 = registers(upper);
            for (lower, of_v3) in (0..).zip(&of_v3) {
                // Bits of other features, all clear or all set, must not matter.
                let others = if (upper >> 17 ^ lower).count_ones() % 2 == 0 { 0 } else { u64::MAX };
                let registers = core::array::from_fn(|i| of_v3[i] | of_v4[i] | others & !known[i]);
                let (found, expected) = (Processor { leaves: LEAVES, registers }.level(), expected(upper | lower));
                assert_eq!(found, expected, "{:#027b}", upper | lower);
                subsets[found as usize] += 1;
            }
        }
        assert_eq!(subsets, [ALL + 1 - 256, 255, 1]);
        println!(
            "{} subsets of 25 features: SSE2 {}, AVX2 {}, AVX-512 {}",
            ALL + 1,
            subsets[0],
            subsets[1],
            subsets[2]
        );
    }

    #[test]
    fn each_feature_alone_decides() {
        for (index, (name, ..)) in OF_V3.iter().chain(&OF_V4).enumerate() {
            let level = Processor { leaves: LEAVES, registers: registers(ALL & !(1 << index)) }.level();
            println!("all but {name}: {level:?}");
            assert_eq!(level, if index < OF_V3.len() { Level::V1 } else { Level::V3 }, "{name}");
        }
        // For leaves that it lacks a processor returns those of others, or anything.
        for (leaves, level) in [
            (LEAVES, Level::V4),
            ([6, 0x8000_0001], Level::V1),
            ([1, 0x8000_0001], Level::V1),
            ([0, 0x8000_0001], Level::V1),
            ([7, 0x8000_0000], Level::V1),
            ([7, 0], Level::V1),
            ([u32::MAX >> 1, u32::MAX], Level::V4),
        ] {
            assert_eq!(Processor { leaves, registers: registers(ALL) }.level(), level, "{leaves:x?}");
        }
    }

    #[test]
    fn agrees_with_the_standard_library() {
        let v3 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("avx")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("sse3")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("sse4.2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("fxsr");
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
