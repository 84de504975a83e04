//! Backends, and the one place that chooses between them.
//!
//! Kernels, boot loaders and enclaves are compiled for x86-64 and AArch64 without vector registers, where the compiler
//! cannot use vectors at all. So every `cfg` tests target features, not the architecture alone, and `Cargo.toml`
//! depends on the SIMD crates by the same conditions.

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod cpu;
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
))]
mod pulp;
#[cfg_attr(
    not(feature = "scalar"),
    allow(dead_code, reason = "one lane, or both ways to add a product, are not asked for")
)]
mod scalar;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) mod software;
pub(crate) mod vector;
#[cfg(test)]
mod vector_tests;
#[cfg(any(target_feature = "sse2", target_feature = "simd128"))]
mod wide;

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};
use vector::Driver;

/// The instruction set that a loss is computed with.
///
/// A value exists only for a backend that this processor and its operating system support: holding one proves that it
/// may run. The best backend is detected once and cached ([`Backend::active`]); every loss can be told to use another.
///
/// Backends of the same class ([`Backend::has_same_bits_as`]) return the same bits for the same input.
///
/// ```
/// use rwwce::Backend;
/// println!("computing with {}", Backend::active());
/// for backend in Backend::available() {
///     assert_eq!(Backend::by_name(backend.name()), Some(backend));
/// }
/// assert_eq!(Backend::by_name("abacus"), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backend(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[allow(dead_code, reason = "which of them are compiled is for `KINDS` to say")]
enum Kind {
    Avx512,
    Avx2,
    Neon,
    /// SSE2 or simd128.
    Baseline,
    ScalarFused,
    Scalar,
    #[cfg(all(test, target_arch = "x86_64"))]
    Sixteen,
    #[cfg(all(test, target_arch = "x86_64"))]
    Eight,
}

/// The kinds that are compiled, from the fastest to the slowest. The feature `scalar` adds both scalar kinds where the
/// target has vectors. Where it has none, one of them is always there, and the feature adds the one with the other
/// multiply-add: a microcontroller has no room for both.
///
/// For development one kind can be compiled alone: `--cfg rwwce_only --cfg 'rwwce_only="avx2"'`.
const KINDS: &[Kind] = &[
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", any(not(rwwce_only), rwwce_only = "avx512")))]
    Kind::Avx512,
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", any(not(rwwce_only), rwwce_only = "avx2")))]
    Kind::Avx2,
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", any(not(rwwce_only), rwwce_only = "neon")))]
    Kind::Neon,
    #[cfg(all(
        any(target_feature = "sse2", target_feature = "simd128"),
        any(not(rwwce_only), rwwce_only = "baseline")
    ))]
    Kind::Baseline,
    // FMA in software is slower than two roundings.
    #[cfg(any(
        all(feature = "scalar", not(rwwce_only)),
        rwwce_only = "scalar",
        not(any(
            target_feature = "sse2",
            target_feature = "simd128",
            all(target_arch = "aarch64", target_feature = "neon")
        ))
    ))]
    if scalar::HARDWARE_FMA { Kind::ScalarFused } else { Kind::Scalar },
    #[cfg(any(all(feature = "scalar", not(rwwce_only)), rwwce_only = "scalar"))]
    if scalar::HARDWARE_FMA { Kind::Scalar } else { Kind::ScalarFused },
    #[cfg(all(test, target_arch = "x86_64"))]
    Kind::Sixteen,
];

impl Kind {
    fn is_supported(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Self::Avx512 => cpu::detect() >= cpu::Level::V4,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Self::Avx2 => cpu::detect() >= cpu::Level::V3,
            // The compilation target decides.
            _ => true,
        }
    }
}

/// 1 + the index in `KINDS` of the best backend; 0 before detection.
static BEST: AtomicU8 = AtomicU8::new(0);

impl Backend {
    /// Whether the target is treated as a microcontroller, without vectors and with little memory: all but x86, wasm32,
    /// x86-64 with SSE2 and AArch64 with NEON.
    pub(crate) const ONLY_SCALAR: bool = cfg!(not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon"),
        target_arch = "x86",
        target_arch = "wasm32"
    )));

    /// The best backend of this processor, which computes every loss that is not told otherwise.
    ///
    /// The processor is asked once; every later call costs one load.
    #[must_use]
    #[inline]
    pub fn active() -> Self {
        // Where the compilation target decides, the choice is a constant, and no backend is linked that is not named.
        if !cfg!(all(target_arch = "x86_64", target_feature = "sse2"))
            && let Some(&kind) = KINDS.iter().find(|kind| kind.is_supported())
        {
            return Self(kind);
        }
        let known = usize::from(BEST.load(Ordering::Relaxed));
        if let Some(&kind) = known.checked_sub(1).and_then(|position| KINDS.get(position)) {
            return Self(kind);
        }
        // A race is harmless: every thread finds the same backend.
        let Some(position) = KINDS.iter().position(|kind| kind.is_supported()) else { return Self(Kind::Baseline) };
        BEST.store((position as u8).wrapping_add(1), Ordering::Relaxed);
        KINDS.get(position).map_or(Self(Kind::Baseline), |&kind| Self(kind))
    }

    /// Vectors in software, whose work is counted.
    #[cfg(test)]
    pub(crate) const SOFTWARE: &'static [Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self(Kind::Sixteen),
        #[cfg(target_arch = "x86_64")]
        Self(Kind::Eight),
    ];

    /// Every backend that this processor supports, from the fastest to the slowest.
    pub fn available() -> impl Iterator<Item = Self> {
        KINDS.iter().copied().filter(|kind| kind.is_supported()).map(Self)
    }

    /// The backend of this name, if this processor supports it: `avx512`, `avx2`, `neon`, `sse2`, `simd128`, `scalar`
    /// (a multiply-add rounds twice) or `scalar-fma` (once).
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().find(|backend| backend.name() == name)
    }

    /// The name of this backend, as [`Backend::by_name`] takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Avx512 => "avx512",
            Kind::Avx2 => "avx2",
            Kind::Neon => "neon",
            Kind::Baseline if cfg!(target_arch = "wasm32") => "simd128",
            Kind::Baseline => "sse2",
            Kind::ScalarFused => "scalar-fma",
            Kind::Scalar => "scalar",
            #[cfg(all(test, target_arch = "x86_64"))]
            Kind::Sixteen => "sixteen",
            #[cfg(all(test, target_arch = "x86_64"))]
            Kind::Eight => "eight",
        }
    }

    /// Whether a multiply-add rounds once (AVX-512, AVX2, NEON, `scalar-fma`) or twice (SSE2, simd128, `scalar`).
    #[must_use]
    pub const fn is_fused(self) -> bool {
        #[cfg(all(test, target_arch = "x86_64"))]
        if matches!(self.0, Kind::Sixteen | Kind::Eight) {
            return true;
        }
        matches!(self.0, Kind::Avx512 | Kind::Avx2 | Kind::Neon | Kind::ScalarFused)
    }

    /// Whether two backends return the same bits for the same input: both compute with vectors, or neither does, and a
    /// multiply-add [rounds once](Self::is_fused) on both, or on neither.
    ///
    /// One lane is a class of its own, since it computes the weighted loss without f64, which microcontrollers do not
    /// have in hardware. Every machine can compute as they do, with the feature `scalar`.
    #[must_use]
    pub const fn has_same_bits_as(self, other: Self) -> bool {
        self.is_fused() == other.is_fused() && self.is_scalar() == other.is_scalar()
    }

    const fn is_scalar(self) -> bool {
        matches!(self.0, Kind::ScalarFused | Kind::Scalar)
    }

    /// Runs a driver with the vectors of this backend.
    #[inline]
    pub(crate) fn drive<D: Driver>(self, driver: D) -> D::Output {
        match self.0 {
            #[cfg(all(test, target_arch = "x86_64"))]
            Kind::Sixteen => driver.drive(software::Software::<16>),
            #[cfg(all(test, target_arch = "x86_64"))]
            Kind::Eight => driver.drive(software::Software::<8>),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", any(not(rwwce_only), rwwce_only = "avx512")))]
            Kind::Avx512 => {
                // SAFETY: this kind is only given out where `cpu::detect` found every instruction set of V4.
                driver.drive(pulp::Pulp(unsafe { ::pulp::x86::V4::new_unchecked() }))
            }
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", any(not(rwwce_only), rwwce_only = "avx2")))]
            Kind::Avx2 => {
                // SAFETY: this kind is only given out where `cpu::detect` found every instruction set of V3.
                driver.drive(pulp::Pulp(unsafe { ::pulp::x86::V3::new_unchecked() }))
            }
            #[cfg(any(all(feature = "scalar", not(rwwce_only)), rwwce_only = "scalar"))]
            Kind::ScalarFused => driver.drive(scalar::Scalar(scalar::Fused)),
            #[cfg(any(all(feature = "scalar", not(rwwce_only)), rwwce_only = "scalar"))]
            Kind::Scalar => driver.drive(scalar::Scalar(scalar::Unfused)),
            // The backend that the compilation target always has.
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", any(not(rwwce_only), rwwce_only = "neon")))]
            _ => {
                // SAFETY: the compilation target includes NEON.
                driver.drive(pulp::Pulp(unsafe { ::pulp::aarch64::Neon::new_unchecked() }))
            }
            #[cfg(all(
                any(target_feature = "sse2", target_feature = "simd128"),
                any(not(rwwce_only), rwwce_only = "baseline")
            ))]
            _ => driver.drive(wide::Baseline),
            #[cfg(not(any(
                target_feature = "sse2",
                target_feature = "simd128",
                all(target_arch = "aarch64", target_feature = "neon")
            )))]
            _ => driver.drive(scalar::Scalar(scalar::OF_TARGET)),
            #[cfg(all(rwwce_only, any(target_feature = "sse2", target_feature = "simd128", target_feature = "neon")))]
            #[allow(unreachable_patterns, reason = "where the one backend is what the target always has")]
            _ => panic!("only one backend has been compiled, and this processor lacks it"),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({})", self.name())
    }
}
