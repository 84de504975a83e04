//! The contract of [`Vector`], operation by operation, against f32 arithmetic.

use super::Backend;
use super::vector::{Driver, VIRTUAL_LANES, Vector};
use std::println;
use std::vec::Vec;

/// Values that comparisons, minimum, maximum and rounding tell apart.
const NUMBERS: [f32; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    f32::MIN_POSITIVE,
    1e-42,
    -3e38,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    1.0 + f32::EPSILON,
    12_345.678,
];
const BITS: [u32; 8] = [0, 1, 0x8000_0000, 0xffff_ffff, 0x7f80_0000, 0x1234_5678, 12, 0x0000_ff00];

/// The same bits, or both NaN.
fn same(found: f32, expected: f32) -> bool {
    found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
}

/// Checks all operations of the vectors of a backend, and returns their number of lanes.
struct Contract;

impl Driver for Contract {
    type Output = usize;

    fn drive<S: Vector>(self, s: S) -> usize {
        s.run(
            #[inline(always)]
            || {
                // Under Miri only operations on memory.
                if !cfg!(miri) {
                    arithmetic(s);
                    comparisons(s);
                    bits(s);
                }
                memory(s);
                masks_and_sums(s);
                S::LANES
            },
        )
    }
}

/// The lanes of a vector.
fn lanes<S: Vector>(s: S, vector: S::F) -> Vec<f32> {
    let mut lanes = [0.0; VIRTUAL_LANES];
    s.store(vector, &mut lanes, 0);
    lanes[..S::LANES].into()
}

/// A vector with `numbers[first]` in its first lane, and so on.
fn vector<S: Vector>(s: S, numbers: &[f32], first: usize) -> (S::F, Vec<f32>) {
    let lanes: Vec<f32> = (first..).map(|i| numbers[i % numbers.len()]).take(S::LANES).collect();
    (s.load(&lanes, 0), lanes)
}

fn each(found: &[f32], expected: impl Fn(usize) -> f32) {
    for (lane, &found) in found.iter().enumerate() {
        let expected = expected(lane);
        assert!(same(found, expected), "lane {lane}: {found:e} instead of {expected:e}");
    }
}

fn arithmetic<S: Vector>(s: S) {
    let count = NUMBERS.len();
    for (i, j) in (0..count).flat_map(|i| (0..count).map(move |j| (i, j))) {
        let ((x, a), (y, b), (z, c)) = (vector(s, &NUMBERS, i), vector(s, &NUMBERS, j), vector(s, &NUMBERS, i * j));
        each(&lanes(s, s.add(x, y)), |lane| a[lane] + b[lane]);
        each(&lanes(s, s.sub(x, y)), |lane| a[lane] - b[lane]);
        each(&lanes(s, s.mul(x, y)), |lane| a[lane] * b[lane]);
        each(&lanes(s, s.div(x, y)), |lane| a[lane] / b[lane]);
        each(&lanes(s, s.mul_add(x, y, z)), |lane| {
            if S::FUSED { a[lane].mul_add(b[lane], c[lane]) } else { a[lane] * b[lane] + c[lane] }
        });
    }
}

fn comparisons<S: Vector>(s: S) {
    for (i, &limit) in NUMBERS.iter().enumerate() {
        for j in 0..NUMBERS.len() {
            let (x, a) = vector(s, &NUMBERS, j);
            let (y, one, two) = (s.splat(limit), s.splat(1.0), s.splat(2.0));
            each(&lanes(s, s.select(s.equal(x, y), one, two)), |lane| if a[lane] == limit { 1.0 } else { 2.0 });
            each(&lanes(s, s.select(s.less(x, y), one, two)), |lane| if a[lane] < limit { 1.0 } else { 2.0 });
            let (least, most) = (lanes(s, s.at_least(x, y)), lanes(s, s.at_most(x, y)));
            for (lane, &a) in a.iter().enumerate() {
                // The sign of a zero is unspecified.
                let equals = |found: f32, expected: f32| {
                    found == expected || found.is_nan() && (expected.is_nan() || limit.is_nan())
                };
                let (floor, ceiling) = if a.is_nan() { (a, a) } else { (a.max(limit), a.min(limit)) };
                assert!(equals(least[lane], floor), "{i}: at least {limit:e} of {a:e} is {:e}", least[lane]);
                assert!(equals(most[lane], ceiling), "{i}: at most {limit:e} of {a:e} is {:e}", most[lane]);
            }
        }
    }
}

fn bits<S: Vector>(s: S) {
    let of = |first: usize| -> (S::U, Vec<u32>) {
        let bits: Vec<u32> = (first..).map(|i| BITS[i % BITS.len()]).take(S::LANES).collect();
        let floats: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        (s.to_bits(s.load(&floats, 0)), bits)
    };
    let holds = |found: S::U, expected: &dyn Fn(usize) -> u32| {
        for (lane, found) in lanes(s, s.of_bits(found)).into_iter().enumerate() {
            assert_eq!(found.to_bits(), expected(lane), "lane {lane}");
        }
    };
    for (i, &number) in BITS.iter().enumerate() {
        holds(s.splat_bits(number), &|_| number);
        for j in 0..BITS.len() {
            let ((x, a), (y, b)) = (of(i), of(j));
            holds(x, &|lane| a[lane]);
            holds(s.add_bits(x, y), &|lane| a[lane].wrapping_add(b[lane]));
            holds(s.sub_bits(x, y), &|lane| a[lane].wrapping_sub(b[lane]));
            holds(s.and_bits(x, y), &|lane| a[lane] & b[lane]);
            holds(s.or_bits(x, y), &|lane| a[lane] | b[lane]);
            holds(s.shift_left::<7>(x), &|lane| a[lane] << 7);
            holds(s.shift_right::<9>(x), &|lane| a[lane] >> 9);
            holds(s.xor_bits(x, y), &|lane| a[lane] ^ b[lane]);
        }
    }
    let table = core::array::from_fn(|j| 0x8421_1248 ^ (j as u32 * 0x0123_4567));
    for first in 0..BITS.len() + 64 {
        let numbers: Vec<u32> = (first..first + S::LANES).map(|i| *BITS.get(i).unwrap_or(&(i as u32))).collect();
        let floats: Vec<f32> = numbers.iter().map(|&bits| f32::from_bits(bits)).collect();
        holds(s.lookup(&table, s.to_bits(s.load(&floats, 0))), &|lane| table[(numbers[lane] & 7) as usize]);
    }
    assert!(!s.any_bit(s.splat_bits(0)));
    for (lane, bit) in (0..S::LANES).flat_map(|lane| (0..32).map(move |bit| (lane, bit))) {
        let mut numbers = [0.0; VIRTUAL_LANES];
        numbers[lane] = f32::from_bits(1 << bit);
        assert!(s.any_bit(s.to_bits(s.load(&numbers, 0))), "bit {bit} of lane {lane}");
    }
}

fn memory<S: Vector>(s: S) {
    let count = 3 * VIRTUAL_LANES + 1;
    let numbers: Vec<f32> = (0..count).map(|i| i as f32 + 1.0).collect();
    for at in 0..=count + 1 {
        let inside = at + S::LANES <= count;
        let found = lanes(s, s.load(&numbers, at));
        each(&found, |lane| if inside { numbers[at + lane] } else { 0.0 });
        let found = s.try_load(&numbers, at).map(|vector| lanes(s, vector));
        assert_eq!(found, inside.then(|| numbers[at..at + S::LANES].into()), "at {at} of {count}");
        let mut written = numbers.clone();
        s.store(s.splat(-1.0), &mut written, at);
        each(&written, |i| if inside && (at..at + S::LANES).contains(&i) { -1.0 } else { numbers[i] });
    }
    let (a, b) = (s.load(&numbers, 0), s.load(&numbers, S::LANES));
    let (low, high) = s.interleave(a, b);
    // Interleaved; with one lane, unchanged.
    let in_turn = |i: usize| numbers[i / 2 + i % 2 * S::LANES];
    each(&lanes(s, low), in_turn);
    each(&lanes(s, high), |lane| in_turn(S::LANES + lane));
    let (even, odd) = s.deinterleave(low, high);
    each(&lanes(s, even), |lane| numbers[lane]);
    each(&lanes(s, odd), |lane| numbers[S::LANES + lane]);
    if S::LANES >= 4 {
        let rows: Vec<f32> = (0..4 * S::LANES as u16).map(f32::from).collect();
        let rows = [0, 1, 2, 3].map(|i| s.load(&rows, i * S::LANES));
        let columns = s.fours_to_columns(rows);
        for (class, column) in columns.into_iter().enumerate() {
            each(&lanes(s, column), |row| (4 * row + class) as f32);
        }
        for (back, row) in s.columns_to_fours(columns).into_iter().zip(rows) {
            each(&lanes(s, back), |lane| lanes(s, row)[lane]);
        }
    }
    // The last lane of each four, or quarter of all lanes, may be anything.
    let fours = lanes(s, s.threes_to_fours(a));
    each(&fours, |lane| if lane % 4 < 3 { numbers[lane / 4 * 3 + lane % 4] } else { fours[lane] });
    let threes = lanes(s, s.fours_to_threes(a));
    let rows = S::LANES / 4 * 3;
    each(&threes, |lane| if lane < rows { numbers[lane / 3 * 4 + lane % 3] } else { threes[lane] });
    for len in 0..=VIRTUAL_LANES + 1 {
        let some = lanes(s, s.load_partial(&numbers[..len], -1.0));
        each(&some, |lane| if lane < len { numbers[lane] } else { -1.0 });
        let mut written = numbers[..len].to_vec();
        s.store_partial(s.splat(-1.0), &mut written);
        each(&written, |i| if i < S::LANES { -1.0 } else { numbers[i] });
    }
}

fn masks_and_sums<S: Vector>(s: S) {
    let (one, two) = (s.splat(1.0), s.splat(2.0));
    for count in 0..=VIRTUAL_LANES {
        each(&lanes(s, s.select(s.first_lanes(count), one, two)), |lane| if lane < count { 1.0 } else { 2.0 });
        let ones = [1.0; VIRTUAL_LANES];
        let mut numbers = [0.0; VIRTUAL_LANES + 1];
        numbers[count] = 1.0;
        let mask = s.equal(s.load(&numbers, 0), s.load(&ones, 0));
        assert_eq!(s.bits_of_mask(mask), if count < S::LANES { 1 << count } else { 0 });
        assert_eq!(s.bits_of_mask(s.first_lanes(count)), (1 << count.min(S::LANES)) - 1);
    }
    // Values whose sum depends on the order of addition.
    let (x, a) = vector(s, &[1.0, 3e7, -3e7, 0.1, 1e-3, 7e7, 0.3, 5.0, -1.1, 2e7, 3.3, -2e7], 3);
    let mut rows = [x; VIRTUAL_LANES];
    for (number, vector) in rows.iter_mut().enumerate() {
        *vector = s.mul(x, s.splat(1.0 + number as f32));
    }
    let element = |vector: usize, lane: usize| a[lane % S::LANES] * (1.0 + (vector + lane / S::LANES) as f32);
    for (row, sum) in s.horizontal_sums(&rows).into_iter().enumerate().take(S::LANES) {
        let lane = |j: usize| element(S::VECTORS_OF_A_COLUMN * row, j);
        let half = |j: usize| {
            (f64::from(lane(j)) + f64::from(lane(j + 8))) + (f64::from(lane(j + 4)) + f64::from(lane(j + 12)))
        };
        assert_eq!(sum, (half(0) + half(2)) + (half(1) + half(3)));
    }
    for (row, sum) in s.sums_of_eights(&rows).into_iter().enumerate().take(S::LANES) {
        let lane = |j: usize| element(S::VECTORS_OF_EIGHT_LANES * row, j);
        let eight = |j: usize| if S::LANES == 16 { lane(j) + lane(j + 8) } else { lane(j) };
        let half = |j: usize| f64::from(eight(j)) + f64::from(eight(j + 4));
        assert_eq!(sum, (half(0) + half(2)) + (half(1) + half(3)));
    }
    if S::LANES == 16 {
        let (low, high) = (|lane: usize| a[lane % 8], |lane: usize| a[lane % 8 + 8]);
        let other = vector(s, &[3.0, -1e7, 0.5, 1e-3, 2e7], 4);
        let (b, c) = (|lane: usize| other.1[lane % 8], |lane: usize| other.1[lane % 8 + 8]);
        each(&lanes(s, s.add_halves(x)), |lane| if lane < 8 { low(lane) + high(lane) } else { 0.0 });
        each(&lanes(s, s.halves_apart([x, other.0])), |lane| {
            let others = (b(lane) + c(lane)) + low(lane).min(high(lane));
            if lane < 8 { low(lane).max(high(lane)) } else { others }
        });
    }
}

#[test]
fn every_backend_keeps_the_contract() {
    for backend in Backend::available().chain(Backend::SOFTWARE.iter().copied()) {
        println!("{backend}: {} lanes", backend.drive(Contract));
    }
}
