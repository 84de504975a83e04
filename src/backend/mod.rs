//! Which instructions compute: the one place that chooses.

#[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "wasm32"))]
mod baseline;
#[cfg(target_arch = "x86_64")]
mod cpu;
mod scalar;
pub(crate) mod vector;
#[cfg(test)]
mod vector_tests;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod wide_registers;

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};
use vector::{Operation, Vector};

/// The instructions that a loss is computed with.
///
/// A value can only be had for a backend that this processor and its operating system support, so holding one is the
/// proof that it may run. The best one is found once and remembered ([`Backend::active`]); every loss can be asked to
/// use another.
///
/// Backends of the same class ([`Backend::is_fused`]) return the same bits for the same input.
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
#[repr(u8)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512 = 1,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "wasm32"))]
    Baseline,
    ScalarFused,
    Scalar,
}

/// From the fastest to the slowest.
const KINDS: &[Kind] = &[
    #[cfg(target_arch = "x86_64")]
    Kind::Avx512,
    #[cfg(target_arch = "x86_64")]
    Kind::Avx2,
    #[cfg(target_arch = "aarch64")]
    Kind::Neon,
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "wasm32"))]
    Kind::Baseline,
    // FMA in software is slower than two roundings.
    if scalar::HARDWARE_FMA { Kind::ScalarFused } else { Kind::Scalar },
    if scalar::HARDWARE_FMA { Kind::Scalar } else { Kind::ScalarFused },
];

impl Kind {
    fn is_supported(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => cpu::detect() >= cpu::Level::V4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => cpu::detect() >= cpu::Level::V3,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => cfg!(target_feature = "neon"),
            #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "wasm32"))]
            Self::Baseline => cfg!(any(target_feature = "sse2", target_feature = "simd128")),
            Self::ScalarFused | Self::Scalar => true,
        }
    }
}

/// The position in `KINDS` of the best backend plus 1; 0 while it is not known.
static BEST: AtomicU8 = AtomicU8::new(0);

impl Backend {
    /// Whether this is a target for which this crate has no vectors: a microcontroller, or something like it.
    pub(crate) const ONLY_SCALAR: bool =
        cfg!(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64", target_arch = "wasm32")));

    /// The best backend of this processor: what computes unless a loss is told otherwise.
    ///
    /// The processor is asked once; after that the answer costs one load.
    #[must_use]
    #[inline]
    pub fn active() -> Self {
        // Where the compilation target decides, programs carry no other backend than those that they name.
        if !cfg!(target_arch = "x86_64")
            && let Some(&kind) = KINDS.iter().find(|kind| kind.is_supported())
        {
            return Self(kind);
        }
        let known = usize::from(BEST.load(Ordering::Relaxed));
        if let Some(&kind) = known.checked_sub(1).and_then(|position| KINDS.get(position)) {
            return Self(kind);
        }
        // Several threads may come here at once; they find the same.
        let Some(position) = KINDS.iter().position(|kind| kind.is_supported()) else { return Self(Kind::Scalar) };
        BEST.store(position as u8 + 1, Ordering::Relaxed);
        KINDS.get(position).map_or(Self(Kind::Scalar), |&kind| Self(kind))
    }

    /// Every backend that this processor supports, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        KINDS.iter().copied().filter(|kind| kind.is_supported()).map(Self)
    }

    /// The backend of this name, if this processor supports it: `avx512`, `avx2`, `neon`, `sse2`, `simd128`, `scalar`
    /// (two roundings in a multiply-add) or `scalar-fma` (one).
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().find(|backend| backend.name() == name)
    }

    /// The name of this backend, as [`Backend::by_name`] takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
            Kind::Baseline => "sse2",
            #[cfg(target_arch = "wasm32")]
            Kind::Baseline => "simd128",
            Kind::ScalarFused => "scalar-fma",
            Kind::Scalar => "scalar",
        }
    }

    /// Whether a multiply-add rounds once (AVX-512, AVX2, NEON, `scalar-fma`) or twice (SSE2, simd128, `scalar`).
    ///
    /// Backends with the same answer return the same bits.
    #[must_use]
    pub const fn is_fused(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 | Kind::Avx2 => true,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => true,
            #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "wasm32"))]
            Kind::Baseline => false,
            Kind::ScalarFused => true,
            Kind::Scalar => false,
        }
    }

    /// Runs a computation with the instructions of this backend.
    #[inline]
    pub(crate) fn run<O: Operation>(self, operation: O) -> O::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => {
                // SAFETY: this kind is only given out where `cpu::detect` found every instruction set of V4.
                wide_registers::Pulp(unsafe { pulp::x86::V4::new_unchecked() }).run(operation)
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => {
                // SAFETY: this kind is only given out where `cpu::detect` found every instruction set of V3.
                wide_registers::Pulp(unsafe { pulp::x86::V3::new_unchecked() }).run(operation)
            }
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => {
                // SAFETY: this kind is only given out where the compilation target includes NEON.
                wide_registers::Pulp(unsafe { pulp::aarch64::Neon::new_unchecked() }).run(operation)
            }
            #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "wasm32"))]
            Kind::Baseline => baseline::Baseline.run(operation),
            Kind::ScalarFused => scalar::Scalar(scalar::Fused).run(operation),
            Kind::Scalar => scalar::Scalar(scalar::Unfused).run(operation),
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
