//! The oracle of the fuzz targets: makes bytes into a case, computes it by every entry point, and compares the results
//! with the contract. A target is one function of bytes here, so that an input can also be replayed without libFuzzer.

mod batch;
mod binary;
mod capi;
mod combined;
mod curvature;
mod decide;
mod generate;
mod guarded;
mod labels_and_shapes;
mod merge;
mod nan_inf;
mod narrow;
mod options;
mod real_world;
mod soft_targets;
mod threads;
mod weighted;

/// The numbers and rows of the tests: f64 references, ulps, regimes.
#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/common/costs.rs"]
mod costs;
#[path = "../../tests/common/stored.rs"]
mod stored;
#[path = "../../tests/common/textbook.rs"]
mod textbook;

use arbitrary::{Result, Unstructured};
use rwwce::Backend;
use std::sync::OnceLock;

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// Every target by its name.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name)),*];

        $(
            /// Runs the target of this name on one input; panics with the case where the contract is broken.
            pub fn $name(bytes: &[u8]) {
                // Inputs with too few bytes for a case are skipped.
                let _: Result<()> = $name::check(&mut Unstructured::new(bytes));
            }
        )*
    };
}
targets!(
    nan_inf,
    weighted,
    soft_targets,
    real_world,
    binary,
    labels_and_shapes,
    merge,
    narrow,
    capi,
    decide,
    curvature,
    threads
);

pub use generate::SPECIAL;

/// The number of seeds of each target.
pub const SEEDS: u32 = 16;

/// A seed: the first of the random inputs, from short to long.
pub fn seed(number: u32) -> Vec<u8> {
    random(0, number)
}

/// An input of some length from a generator.
pub fn random(seed: u64, number: u32) -> Vec<u8> {
    let mut rng = common::Rng(seed.wrapping_mul(0x1_0000_0001) ^ u64::from(number) << 32);
    let len = 24 << (number % 5);
    (0..len).map(|_| rng.bits() as u8).collect()
}

/// The backends of this processor, and whether each emulates FMA in software, too slow for most cases.
fn all_backends() -> &'static [(Backend, bool)] {
    static BACKENDS: OnceLock<Vec<(Backend, bool)>> = OnceLock::new();
    BACKENDS.get_or_init(|| Backend::available().map(|backend| (backend, common::is_slow(backend))).collect())
}

/// The backends for a case: those that are fused, those that are not, or all; the slow one only now and then.
fn backends(u: &mut Unstructured<'_>) -> Result<impl Iterator<Item = Backend> + use<>> {
    let choice = u.arbitrary::<u8>()?;
    let chosen = move |&(backend, slow): &(Backend, bool)| match choice {
        0xa5 => true,
        _ if slow => false,
        0..8 => true,
        _ => backend.is_fused() == (choice % 2 == 0),
    };
    Ok(all_backends().iter().copied().filter(chosen).map(|(backend, _)| backend))
}

/// Results of the first backend of each class of same bits, for comparison with the next.
#[derive(Default)]
struct SameBits(Vec<(Backend, Vec<u32>)>);

impl SameBits {
    /// Panics where the bits differ from those of an earlier backend of the class; NaN equals NaN.
    fn check<'n>(
        &mut self,
        backend: Backend,
        numbers: impl IntoIterator<Item = &'n [f32]>,
        case: &dyn std::fmt::Debug,
    ) {
        let found: Vec<u32> = numbers.into_iter().flat_map(common::bits).collect();
        match self.0.iter().find(|(first, _)| first.has_same_bits_as(backend)) {
            None => self.0.push((backend, found)),
            Some((first, expected)) => {
                if let Some(at) = (0..found.len().max(expected.len())).find(|&at| found.get(at) != expected.get(at)) {
                    let number = |of: &[u32]| of.get(at).map(|&bits| f32::from_bits(bits));
                    let (found, expected) = (number(&found), number(expected));
                    panic!("number {at} of {backend} is {found:?}, of {first} {expected:?}\n{case:?}");
                }
            }
        }
    }
}
