//! Decisions of least expected cost: no other class costs less, on every backend, in every layout, with the same bits.

mod common;
#[path = "common/costs.rs"]
mod costs;

use common::{REGIMES, Rng, available, backends, bits, error_in_ulps};
use costs::{Costs, softmax};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use rwwce::{CrossEntropy, Logits, NO_DECISION};

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

/// Logits of a shape, with costs.
#[derive(Clone, Debug)]
struct Case {
    /// \[C, D, N, padding between samples\]
    shape: [usize; 4],
    logits: Vec<f32>,
    costs: Costs,
    temperature: f32,
    bias: Option<Vec<f32>>,
}

impl Case {
    fn loss(&self) -> CrossEntropy<'_> {
        let [classes, positions, _, padding] = self.shape;
        let mut loss = CrossEntropy::new(classes).positions(positions).row_stride(classes * positions + padding);
        if let Some(bias) = &self.bias {
            loss = loss.class_bias(bias);
        }
        self.costs.of(loss).temperature(self.temperature)
    }

    /// The row of each decision.
    fn rows(&self) -> Vec<Vec<f32>> {
        let [classes, positions, samples, padding] = self.shape;
        let element = |n, d, c| self.logits[n * (classes * positions + padding) + c * positions + d];
        let row = |n, d| (0..classes).map(|c| element(n, d, c)).collect();
        (0..samples).flat_map(|n| (0..positions).map(move |d| row(n, d))).collect()
    }

    /// Logits over the temperature, plus the class bias.
    fn adjusted(&self, row: &[f32]) -> Vec<f32> {
        let bias = |class: usize| self.bias.as_ref().map_or(0.0, |bias| bias[class]);
        row.iter().enumerate().map(|(class, x)| x / self.temperature + bias(class)).collect()
    }

    /// Checks the decisions and costs that `decide` computes on every backend: within the bounds, and the same bits.
    fn check(
        &self,
        of_row: impl Fn(&[f32]) -> Option<Vec<f64>>,
        decide: impl Fn(CrossEntropy<'_>, &mut [u32], Option<&mut [f32]>) -> usize,
    ) -> Result<(), String> {
        let rows = self.rows();
        let mut first = None;
        for backend in available() {
            let loss = self.loss().backend(backend);
            let (mut decisions, mut alone, mut costs) =
                (vec![7; rows.len()], vec![9; rows.len()], vec![7.0; rows.len()]);
            let undecided = decide(loss, &mut decisions, Some(&mut costs));
            let none = decisions.iter().filter(|&&class| class == NO_DECISION).count();
            if undecided != none || decide(loss, &mut alone, None) != none || alone != decisions {
                return Err(format!("{backend}: {undecided} without a decision of {decisions:?}, {alone:?}"));
            }
            let found = (decisions, bits(&costs));
            if first.get_or_insert_with(|| found.clone()) != &found {
                return Err(format!("{backend}: other bits"));
            }
        }
        let (decisions, costs) = first.unwrap_or_default();
        for (number, row) in rows.iter().enumerate() {
            let p = of_row(row);
            let checked = self.costs.check(p.as_deref(), decisions[number], f32::from_bits(costs[number]));
            checked.map_err(|wrong| format!("row {number}: {wrong}"))?;
        }
        Ok(())
    }

    fn check_logits(&self) -> Result<(), String> {
        self.check(
            |row| softmax(&self.adjusted(row)),
            |loss, decisions, costs| loss.decide(&self.logits, decisions, costs).unwrap(),
        )
    }

    /// Takes the logits for probabilities.
    fn check_probabilities(&self) -> Result<(), String> {
        let is_probability = |&p: &f32| (0.0..INF).contains(&p);
        self.check(
            |row| row.iter().all(is_probability).then(|| row.iter().map(|&p| f64::from(p)).collect()),
            |loss, decisions, costs| loss.decide_from_probabilities(&self.logits, decisions, costs).unwrap(),
        )
    }
}

/// Costs of a `kind`: hardly different, of any power of ten, small integers with many ties, or ordinary; some are 0.
fn cost(kind: usize, rng: &mut Rng) -> f32 {
    match (rng.below(8), kind) {
        (0, _) => 0.0,
        (_, 0) => rng.between(1.0, 1.0001),
        (_, 1) => 10f32.powf(rng.between(-38.0, 38.0)),
        (_, 2) => rng.below(3) as f32,
        _ => rng.between(0.0, 20.0),
    }
}

fn random_costs(classes: usize, rng: &mut Rng) -> Costs {
    let (miss, mislabel) = (rng.below(4), rng.below(4));
    let mut costs = Costs::default();
    if rng.below(3) > 0 {
        costs.miss = Some((0..classes).map(|_| cost(miss, rng)).collect());
    }
    if rng.below(2) > 0 {
        let of_cell = |cell| if cell % (classes + 1) == 0 { 0.0 } else { cost(mislabel, rng) };
        costs.mislabel = Some((0..classes * classes).map(of_cell).collect());
    }
    costs
}

/// Logits of every regime, now and then with a NaN, an infinity, or an exact tie.
fn logits(shape: [usize; 4], rng: &mut Rng) -> Vec<f32> {
    let [classes, positions, samples, padding] = shape;
    let mut logits = vec![NAN; samples * (classes * positions + padding)];
    for n in 0..samples {
        for d in 0..positions {
            let (mut row, _) = REGIMES[rng.below(REGIMES.len())].row(classes, rng);
            for _ in 0..rng.below(3) * rng.below(2) {
                row[rng.below(classes)] = [NAN, INF, f32::NEG_INFINITY, row[0], 1000.0, -1000.0][rng.below(6)];
            }
            for (c, x) in row.into_iter().enumerate() {
                logits[n * (classes * positions + padding) + c * positions + d] = x;
            }
        }
    }
    logits
}

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut rng = Rng(u64::arbitrary(g));
        let end = [3, 20, 40, 300][rng.below(4)];
        let classes = 1 + rng.below(end);
        let (positions, samples) = [(1, 1), (1, 30), (9, 2), (2, 5), (17, 1)][rng.below(5)];
        let shape = [classes, positions, rng.below(samples + 1), rng.below(2) * rng.below(4)];
        let is_adjusted = rng.below(3) == 0;
        Self {
            shape,
            logits: logits(shape, &mut rng),
            costs: random_costs(classes, &mut rng),
            temperature: if is_adjusted { rng.between(0.5, 3.0) } else { 1.0 },
            bias: is_adjusted.then(|| (0..classes).map(|_| rng.between(-3.0, 3.0)).collect()),
        }
    }

    /// With fewer samples or simpler options.
    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let [classes, positions, samples, padding] = self.shape;
        let stride = classes * positions + padding;
        let fewer = (0..samples).filter(|_| samples > 1).map(|kept| Self {
            shape: [classes, positions, 1, padding],
            logits: self.logits[kept * stride..][..stride].to_vec(),
            ..self.clone()
        });
        let plain = self.bias.is_some().then(|| Self { bias: None, temperature: 1.0, ..self.clone() });
        let miss = self.costs.miss.is_some().then(|| Costs { miss: None, ..self.costs.clone() });
        let mislabel = self.costs.mislabel.is_some().then(|| Costs { mislabel: None, ..self.costs.clone() });
        let costs = miss.into_iter().chain(mislabel).map(|costs| Self { costs, ..self.clone() });
        Box::new(fewer.chain(plain).chain(costs).collect::<Vec<_>>().into_iter())
    }
}

/// Probabilities that sum to 1 or not, and rows with a negative, infinite or NaN element.
#[derive(Clone, Debug)]
struct Given(Case);

impl Arbitrary for Given {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut case = Case::arbitrary(g);
        let small = u8::arbitrary(g) % 8 > 0;
        for p in &mut case.logits {
            *p = if small && p.is_finite() { (*p / 8.0).exp().min(1.0) } else { *p };
        }
        Self(Case { bias: None, temperature: 1.0, ..case })
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.0.shrink().map(Self))
    }
}

const TESTS: u64 = if cfg!(miri) { 2 } else { 600 };

#[test]
fn no_class_has_a_lower_expected_cost() {
    backends();
    QuickCheck::new().tests(TESTS).quickcheck((|case: Case| case.check_logits()) as fn(Case) -> _);
}

#[test]
fn no_class_has_a_lower_expected_cost_by_probabilities() {
    backends();
    QuickCheck::new().tests(TESTS).quickcheck((|given: Given| given.0.check_probabilities()) as fn(Given) -> _);
}

/// Remainders of every vector width, and rows of several pieces.
#[test]
fn every_number_of_classes() {
    backends();
    let mut rng = Rng(71);
    let long = if cfg!(miri) { &[][..] } else { &[127, 128, 129, 255, 256, 257, 1000, 2049, 4097, 33_000, 70_001] };
    for classes in (1..=40).chain(long.iter().copied()) {
        for samples in [1, 8, 11] {
            let shape = [classes, 1, if classes > 2000 { samples.min(9) } else { samples }, 0];
            let mut costs = random_costs(classes.min(1000), &mut rng);
            if classes > 1000 {
                costs = Costs { miss: Some((0..classes).map(|_| cost(3, &mut rng)).collect()), mislabel: None };
            }
            let case = Case { shape, logits: logits(shape, &mut rng), costs, temperature: 1.0, bias: None };
            case.check_logits().unwrap_or_else(|wrong| panic!("{classes} classes: {wrong}"));
        }
    }
}

/// Costs of more classes than are added up at once, of which the least is in the last part.
#[test]
fn a_matrix_of_many_classes() {
    let classes = if cfg!(miri) { 130 } else { 2049 };
    let mut rng = Rng(72);
    let mut mislabel: Vec<f32> = (0..classes * classes).map(|_| rng.between(1.0, 2.0)).collect();
    for truth in 0..classes {
        mislabel[truth * classes + classes - 2] = 0.5;
        mislabel[truth * classes + truth] = 0.0;
    }
    let logits: Vec<f32> = (0..3 * classes).map(|_| rng.between(-1.0, 1.0)).collect();
    let costs = Costs { miss: None, mislabel: Some(mislabel) };
    let case = Case { shape: [classes, 1, 3, 0], logits, costs, temperature: 1.0, bias: None };
    case.check_logits().unwrap();
    let mut decisions = [0; 3];
    case.loss().decide(&case.logits, &mut decisions, None).unwrap();
    assert_eq!(decisions, [classes as u32 - 2; 3]);
}

/// FNV-1a of decisions and expected costs of every regime, the same on every backend of every machine.
const HASH: u64 = 0xcc7a_d9ad_70a0_48c0;

#[test]
fn the_same_bits_on_every_machine() {
    for backend in backends() {
        let (mut rng, mut hash) = (Rng(77), 0xcbf2_9ce4_8422_2325u64);
        for classes in [2, 3, 10, 33, 130] {
            for regime in REGIMES {
                let rows = 13;
                let logits: Vec<f32> = (0..rows).flat_map(|_| regime.row(classes, &mut rng).0).collect();
                let miss: Vec<f32> = (0..classes).map(|_| rng.between(0.5, 9.0)).collect();
                let of_cell = |cell| if cell % (classes + 1) == 0 { 0.0 } else { rng.between(0.0, 5.0) };
                let mislabel: Vec<f32> = (0..classes * classes).map(of_cell).collect();
                let loss = CrossEntropy::new(classes).backend(backend);
                for loss in [loss, loss.class_weights(&miss), loss.mislabel_costs(&mislabel)] {
                    let (mut decisions, mut costs) = (vec![0; rows], vec![0.0; rows]);
                    loss.decide(&logits, &mut decisions, Some(&mut costs)).unwrap();
                    for word in decisions.into_iter().chain(bits(&costs)) {
                        hash = (hash ^ u64::from(word)).wrapping_mul(0x100_0000_01b3);
                    }
                }
            }
        }
        assert_eq!(hash, HASH, "{backend}: {hash:#x}");
    }
}

#[test]
fn ties_go_to_the_lowest_index() {
    let mislabel = [0.0, 1.0, 1.0, 0.0];
    for backend in backends() {
        let loss = CrossEntropy::new(2).backend(backend);
        let mut decisions = [9; 9];
        loss.decide(&[3.0; 18], &mut decisions, None).unwrap();
        assert_eq!(decisions, [0; 9], "{backend}");
        loss.mislabel_costs(&mislabel).decide(&[3.0; 18], &mut decisions, None).unwrap();
        assert_eq!(decisions, [0; 9], "{backend}");
        // All costs are 0.
        let mut costs = [7.0; 9];
        loss.class_weights(&[0.0; 2]).decide(&[0.0, 3.0].repeat(9), &mut decisions, Some(&mut costs)).unwrap();
        assert_eq!((decisions, costs), ([0; 9], [0.0; 9]), "{backend}");
        // 0.25·1 = 0.5·0.5
        let loss = CrossEntropy::new(3).backend(backend).class_weights(&[0.5, 1.0, 1.0]);
        loss.decide_from_probabilities(&[0.5, 0.25, 0.25].repeat(9), &mut decisions, Some(&mut costs)).unwrap();
        assert_eq!((decisions, costs), ([0; 9], [0.5; 9]), "{backend}");
    }
}

#[test]
fn infinite_logits_and_nan() {
    const NONE: u32 = NO_DECISION;
    let low = f32::NEG_INFINITY;
    let rows = [
        ([NAN, 0.0, 0.0], NONE),
        ([0.0, INF, NAN], NONE),
        ([low, low, NAN], NONE),
        ([low, low, low], NONE),
        ([INF, 0.0, INF], NONE),
        ([0.0, INF, low], 1),
        ([low, INF, low], 1),
        ([low, 0.0, 1.0], 2),
        ([low, 5.0, low], 1),
        ([f32::MAX, f32::MIN, 0.0], 0),
        ([f32::MIN, f32::MIN, f32::MIN], 0),
    ];
    let logits: Vec<f32> = rows.iter().flat_map(|(row, _)| *row).collect();
    let expected: Vec<u32> = rows.iter().map(|&(_, class)| class).collect();
    let matrix = [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0];
    for backend in backends() {
        let loss = CrossEntropy::new(3).backend(backend);
        for loss in [loss, loss.class_weights(&[1.0; 3]), loss.mislabel_costs(&matrix)] {
            let (mut decisions, mut costs) = (vec![7; rows.len()], vec![7.0; rows.len()]);
            assert_eq!(loss.decide(&logits, &mut decisions, Some(&mut costs)), Ok(5));
            assert_eq!(decisions, expected, "{backend}");
            for (class, cost) in decisions.iter().zip(&costs) {
                assert_eq!(*class == NONE, cost.is_nan(), "{backend} {costs:?}");
            }
            // A class that is certain has an expected cost of 0.
            assert_eq!(costs[5..7], [0.0; 2], "{backend}");
            assert_eq!(costs[8..10], [0.0; 2], "{backend}");
        }
        let mut one = [7; 2];
        assert_eq!(CrossEntropy::new(1).backend(backend).decide(&[low, INF], &mut one, None), Ok(1));
        assert_eq!(one, [NONE, 0]);
    }
}

/// Tiny probabilities decide where the other costs are equal, though expected costs underflow f32.
#[test]
fn small_probabilities_decide() {
    let mislabel = [0.0, 0.0, 0.0, 1e30, 0.0, 1.0, 1.0, 2.0, 0.0];
    for backend in backends() {
        let loss = CrossEntropy::new(3).backend(backend).class_weights(&[0.0; 3]).mislabel_costs(&mislabel);
        for (gap, [first, second]) in [(20.0, [2, 1]), (90.0, [2, 1]), (600.0, [2, 1]), (1000.0, [0, 0])] {
            let mut decisions = [9; 2];
            loss.decide(&[gap, 0.0, 0.0, gap, 1.0, 0.0], &mut decisions, None).unwrap();
            assert_eq!(decisions, [first, second], "{backend} {gap}");
        }
    }
}

/// Without costs the decision is that of `add_confusion`, to the last bit of a logit.
#[test]
fn without_costs_the_largest_logit_decides() {
    let mut rng = Rng(73);
    let (rows, classes) = (50, 7);
    let zeros = vec![0u8; rows];
    for round in 0..20 {
        let near = f32::from_bits(0x3f80_0000 >> (round % 3));
        let close = |rng: &mut Rng| f32::from_bits(near.to_bits() + rng.below(3) as u32);
        let wide = |rng: &mut Rng| rng.between(-90.0, 90.0);
        let logits: Vec<f32> =
            (0..rows * classes).map(|_| if round < 10 { close(&mut rng) } else { wide(&mut rng) }).collect();
        for backend in backends() {
            let loss = CrossEntropy::new(classes).backend(backend).temperature(1.5);
            let (mut decisions, mut costs) = (vec![0; rows], vec![0.0; rows]);
            loss.decide(&logits, &mut decisions, Some(&mut costs)).unwrap();
            let (mut found, mut confusion) = (vec![0; classes * classes], vec![0; classes * classes]);
            for &class in &decisions {
                found[class as usize] += 1;
            }
            loss.add_confusion(&logits, &zeros, &mut confusion).unwrap();
            assert_eq!(found, confusion, "{backend}");
            for ((row, class), cost) in logits.chunks(classes).zip(&decisions).zip(costs) {
                let mut one = vec![0; classes * classes];
                loss.add_confusion(row, &[0u8], &mut one).unwrap();
                assert_eq!(one[*class as usize], 1, "{backend} {row:?}");
                let p = softmax(&row.iter().map(|x| x / 1.5).collect::<Vec<_>>()).unwrap();
                let others = (0..classes).filter(|&other| other != *class as usize);
                assert!(error_in_ulps(cost, others.map(|other| p[other]).sum()) <= 1.0, "{backend} {row:?}");
            }
        }
    }
}

/// p_1 > cost\[0,1\]/(cost\[0,1\] + cost\[1,0\])
#[test]
fn two_classes_have_a_threshold() {
    let mut rng = Rng(74);
    for _ in 0..200 {
        let (alarm, miss) = (rng.between(0.01, 10.0), rng.between(0.01, 100.0));
        let threshold = (f64::from(alarm) / f64::from(miss)).ln();
        let matrix = [0.0, alarm, miss, 0.0];
        let steps = [-3.0, -1e-2, -1e-5, 1e-5, 1e-2, 3.0];
        let logits: Vec<f32> = steps.iter().flat_map(|step| [0.0, (threshold + step) as f32]).collect();
        for backend in backends() {
            let loss = CrossEntropy::new(2).backend(backend);
            for loss in [loss.class_weights(&matrix[1..3]), loss.class_weights(&[0.0; 2]).mislabel_costs(&matrix)] {
                let mut decisions = [9; 6];
                loss.decide(&logits, &mut decisions, None).unwrap();
                assert_eq!(decisions, [0, 0, 0, 1, 1, 1], "{backend} {alarm} {miss}");
            }
        }
    }
}

/// Miss costs are 1 where only mislabel costs are given, as in the loss.
#[test]
fn absent_costs() {
    let (rows, ones) = ([0.3, 0.1, 0.9, -0.5, 0.2, 0.1], [1.0; 3]);
    let matrix = [0.0, 3.0, 0.5, 0.0, 0.0, 0.25, 4.0, 0.0, 0.0];
    let results = |loss: CrossEntropy<'_>| {
        let (mut decisions, mut costs) = ([0; 2], [0.0; 2]);
        loss.decide(&rows, &mut decisions, Some(&mut costs)).unwrap();
        (decisions, costs)
    };
    let loss = CrossEntropy::new(3);
    assert_eq!(results(loss.mislabel_costs(&matrix)), results(loss.mislabel_costs(&matrix).class_weights(&ones)));
    assert_eq!(results(loss.mislabel_costs(&[0.0; 9])), results(loss));
    assert_eq!(results(loss.class_weights(&ones)), results(loss));
}

/// Options that concern labels have no effect.
#[test]
fn options_without_a_meaning() {
    let mut rng = Rng(75);
    let logits: Vec<f32> = (0..30).map(|_| rng.between(-3.0, 3.0)).collect();
    let samples = [2.0; 10];
    let plain = CrossEntropy::new(3).class_weights(&[1.0, 2.0, 3.0]);
    let every = plain.label_smoothing(0.1).focal(2.0).z_loss(0.1).ignore_index(0).sample_weights(&samples);
    let results = [plain, every].map(|loss| {
        let (mut decisions, mut costs) = ([0; 10], [0.0; 10]);
        loss.decide(&logits, &mut decisions, Some(&mut costs)).unwrap();
        (decisions, costs)
    });
    assert_eq!(results[0], results[1]);
}

#[test]
fn integers_are_the_numbers_that_they_stand_for() {
    let mut rng = Rng(76);
    let values: Vec<i8> = (0..19 * 12).map(|_| rng.below(256) as u8 as i8).collect();
    let logits = Logits::I8 { values: &values, scale: 0.07, zero_point: -3 };
    let wide: Vec<f32> = (0..values.len()).map(|i| logits.get(i).unwrap()).collect();
    for backend in backends() {
        for (loss, rows) in [(CrossEntropy::new(19), 12), (CrossEntropy::new(3).positions(4), 76)] {
            let results = |given: Logits<'_>| {
                let (mut decisions, mut costs) = (vec![0; rows], vec![0.0; rows]);
                loss.backend(backend).decide(given, &mut decisions, Some(&mut costs)).unwrap();
                (decisions, bits(&costs))
            };
            assert_eq!(results(logits), results(Logits::F32(&wide)), "{backend}");
        }
    }
}
