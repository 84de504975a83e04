//! Any lengths, labels of every type, strides, positions, options: a call fails exactly where a plain reading of the
//! rules says so, with an error that the rules name, and then no output has changed.

use crate::backends;
use arbitrary::{Result, Unstructured};
use rwwce::{
    Argument, Backend, ClassSums, CrossEntropy, Denominator, Error, Label, Reduction, Upstream, ZeroDenominator,
    count_labels, weighted_row_losses,
};

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let case = Case::new(u)?;
    let backend = match backends(u)?.nth(usize::from(u.arbitrary::<u8>()? % 5)) {
        Some(backend) => backend,
        None => Backend::active(),
    };
    match case.label_type {
        0 => case.call(backend, &case.labels_as::<u8>()),
        1 => case.call(backend, &case.labels_as::<u16>()),
        2 => case.call(backend, &case.labels_as::<u32>()),
        3 => case.call(backend, &case.labels_as::<i32>()),
        4 => case.call(backend, &case.labels_as::<i64>()),
        _ => case.call(backend, &case.labels_as::<usize>()),
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    RowLosses,
    Loss,
    Gradient,
    GradientInPlace,
    SoftRowLosses,
    SoftGradient,
    FromProbabilities,
    FromLogProbabilities,
    GradientFromLogProbabilities,
    LogProbabilities,
    LogSumExps,
    Decide,
    DecideFromProbabilities,
    Alone,
    Confusion,
    ClassSums,
    CountLabels,
}

const FUNCTIONS: [Function; 17] = [
    Function::RowLosses,
    Function::Loss,
    Function::Gradient,
    Function::GradientInPlace,
    Function::SoftRowLosses,
    Function::SoftGradient,
    Function::FromProbabilities,
    Function::FromLogProbabilities,
    Function::GradientFromLogProbabilities,
    Function::LogProbabilities,
    Function::LogSumExps,
    Function::Decide,
    Function::DecideFromProbabilities,
    Function::Alone,
    Function::Confusion,
    Function::ClassSums,
    Function::CountLabels,
];

impl Function {
    fn has_labels(self) -> bool {
        !matches!(self, Self::SoftRowLosses | Self::SoftGradient | Self::LogProbabilities | Self::LogSumExps)
            && !self.decides()
    }

    fn decides(self) -> bool {
        matches!(self, Self::Decide | Self::DecideFromProbabilities)
    }

    fn is_soft(self) -> bool {
        matches!(self, Self::SoftRowLosses | Self::SoftGradient)
    }

    fn is_reduced(self) -> bool {
        !matches!(self, Self::LogProbabilities | Self::LogSumExps | Self::Alone | Self::Confusion | Self::ClassSums)
            && self != Self::CountLabels
            && !self.decides()
    }

    /// The argument that has the layout of the logits.
    fn argument(self) -> Argument {
        match self {
            Self::FromProbabilities | Self::DecideFromProbabilities => Argument::Probabilities,
            Self::FromLogProbabilities => Argument::LogProbabilities,
            Self::GradientFromLogProbabilities => Argument::Gradient,
            _ => Argument::Logits,
        }
    }

    fn has_upstream(self) -> bool {
        matches!(self, Self::Gradient | Self::GradientInPlace | Self::SoftGradient | Self::GradientFromLogProbabilities)
    }
}

#[derive(Debug)]
struct Case {
    function: Function,
    classes: usize,
    positions: usize,
    stride: Option<usize>,
    label_type: u8,
    labels: Vec<i64>,
    ignored: Option<i64>,
    /// Logits, probabilities or log-probabilities.
    given: Vec<f32>,
    soft: Vec<f32>,
    class_weights: Option<Vec<f32>>,
    sample_weights: Option<Vec<f32>>,
    mislabel_costs: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    smoothing: f32,
    focal: f32,
    z_loss: f32,
    temperature: f32,
    eps: f32,
    reduction: Option<Reduction>,
    policy: ZeroDenominator,
    factor: f32,
    factors: Option<Vec<f32>>,
    /// Lengths of the outputs with the layout of the logits, per row, and per class.
    lengths: [usize; 5],
}

/// Mostly the number itself, now and then one near it.
fn near(u: &mut Unstructured<'_>, number: usize) -> Result<usize> {
    Ok(match u.arbitrary::<u8>()? {
        0 => number + 1,
        1 => number.saturating_sub(1),
        2 => 0,
        3 => number * 2,
        _ => number,
    })
}

/// Values whose sums are exact, now and then one that is refused.
fn plain(u: &mut Unstructured<'_>, len: usize) -> Result<Vec<f32>> {
    let len = near(u, len)?.min(3000);
    let mut numbers: Vec<f32> = (0..len).map(|at| [1.0, 0.5, 0.0, 2.0][at % 4]).collect();
    if u.ratio(1, 4)? {
        numbers.fill(0.0);
    }
    if len > 0 && u.ratio(1, 4)? {
        let at = u.choose_index(len)?;
        numbers[at] = *u.choose(&[f32::NAN, f32::INFINITY, -f32::INFINITY, -0.5, -0.0, 0.25, 1e-40])?;
    }
    Ok(numbers)
}

fn optional(u: &mut Unstructured<'_>, len: usize) -> Result<Option<Vec<f32>>> {
    if u.ratio(1, 3)? { plain(u, len).map(Some) } else { Ok(None) }
}

/// A default, now and then another number.
fn option(u: &mut Unstructured<'_>, default: f32) -> Result<f32> {
    if u.ratio(3, 4)? {
        return Ok(default);
    }
    u.choose(&[default, 0.1, 1.0, 0.0, -0.0, 2.0, -1.0, 1e-40, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]).copied()
}

impl Case {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let function = *u.choose(&FUNCTIONS)?;
        let classes = match u.arbitrary::<u8>()? {
            0 => 0,
            1 => *u.choose(&[usize::MAX, usize::MAX / 2 + 1, 1 << 32, (1 << 32) + 1, 1 << 31])?,
            choice => 1 + usize::from(choice) % 20,
        };
        let positions = match u.arbitrary::<u8>()? {
            0 => 0,
            1 => *u.choose(&[usize::MAX, usize::MAX / 2 + 1, 1 << 32, 1 << 63])?,
            2..150 => 1,
            choice => 1 + usize::from(choice) % 7,
        };
        let dense = classes.wrapping_mul(positions);
        let stride = match u.arbitrary::<u8>()? {
            0 => Some(*u.choose(&[0, usize::MAX, 1 << 63, 1])?),
            1..40 => Some(near(u, dense.min(200))?),
            40..80 => Some(dense.wrapping_add(3)),
            _ => None,
        };
        let label_type = u.arbitrary::<u8>()? % 6;
        let samples = usize::from(u.arbitrary::<u8>()? % 20);
        let rows = near(u, samples * positions.min(7))?;
        let ignored =
            if u.arbitrary()? { Some(*u.choose(&[-100, -1, 0, 255, 3, i64::MAX, u32::MAX.into()])?) } else { None };
        let mut labels: Vec<i64> = (0..rows).map(|row| (row % classes.clamp(1, 256)) as i64).collect();
        for _ in 0..u.int_in_range(0..=4)? {
            if rows > 0 {
                let at = u.choose_index(rows)?;
                labels[at] = match u.arbitrary::<u8>()? {
                    0..200 => ignored.unwrap_or(0),
                    200..220 => classes as i64,
                    220..240 => *u.choose(&[-1, i64::MIN, i64::MAX, 256, 65_536, 1 << 32, i64::from(i32::MIN)])?,
                    _ => u.arbitrary()?,
                };
            }
        }
        if ignored.is_some() && u.ratio(1, 8)? {
            labels.fill(ignored.unwrap_or(0));
        }
        let shaped = samples.saturating_mul(stride.unwrap_or(dense)).min(2000);
        let given = vec![0.25; near(u, shaped)?];
        let mut soft = vec![0.5; near(u, given.len())?];
        if !soft.is_empty() && u.ratio(1, 8)? {
            let at = u.choose_index(soft.len())?;
            soft[at] = *u.choose(&[f32::NAN, f32::INFINITY, -0.5])?;
        }
        let small = classes.min(50);
        let mislabel_costs = match u.arbitrary::<u8>()? {
            0..40 => {
                let mut costs = plain(u, small * small)?;
                if u.ratio(7, 8)? {
                    costs.iter_mut().step_by(small + 1).for_each(|cost| *cost = 0.0);
                }
                Some(costs)
            }
            _ => None,
        };
        Ok(Self {
            function,
            classes,
            positions,
            stride,
            label_type,
            ignored,
            class_weights: optional(u, small)?,
            sample_weights: optional(u, rows)?,
            mislabel_costs,
            bias: if u.ratio(1, 6)? { Some(plain(u, small)?) } else { None },
            smoothing: option(u, 0.0)?,
            focal: option(u, 0.0)?,
            z_loss: option(u, 0.0)?,
            temperature: option(u, 1.0)?,
            eps: option(u, 0.0)?,
            reduction: match u.arbitrary::<u8>()? % 6 {
                0 => Some(Reduction::Sum),
                1 => Some(Reduction::Mean(Denominator::WeightSum)),
                2 => Some(Reduction::Mean(Denominator::Rows)),
                3 => Some(Reduction::Mean(Denominator::SampleWeightSum)),
                4 => Some(Reduction::Mean(Denominator::RowsTimesClasses)),
                _ => None,
            },
            policy: *u.choose(&[ZeroDenominator::NaN, ZeroDenominator::Zero, ZeroDenominator::Error])?,
            factor: option(u, 1.0)?,
            factors: optional(u, rows)?,
            lengths: [near(u, given.len())?, near(u, rows)?, near(u, small)?, near(u, small)?, near(u, small)?],
            labels,
            given,
            soft,
        })
    }

    fn labels_as<L: Make>(&self) -> Vec<L> {
        self.labels.iter().map(|&label| L::make(label)).collect()
    }

    fn loss(&self, backend: Backend) -> CrossEntropy<'_> {
        let mut loss = CrossEntropy::new(self.classes)
            .positions(self.positions)
            .label_smoothing(self.smoothing)
            .focal(self.focal)
            .z_loss(self.z_loss)
            .temperature(self.temperature)
            .zero_denominator(self.policy)
            .backend(backend);
        if let Some(stride) = self.stride {
            loss = loss.row_stride(stride);
        }
        if let Some(label) = self.ignored {
            loss = loss.ignore_index(label);
        }
        if let Some(weights) = &self.class_weights {
            loss = loss.class_weights(weights);
        }
        if let Some(weights) = &self.sample_weights {
            loss = loss.sample_weights(weights);
        }
        if let Some(costs) = &self.mislabel_costs {
            loss = loss.mislabel_costs(costs);
        }
        if let Some(bias) = &self.bias {
            loss = loss.class_bias(bias);
        }
        if let Some(reduction) = self.reduction {
            loss = loss.reduction(reduction);
        }
        loss
    }

    fn upstream(&self) -> Upstream<'_> {
        self.factors.as_ref().map_or(Upstream::Loss(self.factor), |factors| Upstream::Rows(factors))
    }

    fn call<L: Label>(&self, backend: Backend, labels: &[L]) {
        let loss = self.loss(backend);
        let [shaped, rows, counts, weights, losses] = self.lengths;
        let mut shaped = crate::common::pattern(shaped);
        let (mut of_rows, mut decisions) = (crate::common::pattern(rows), vec![7; rows]);
        let mut over = self.given.clone();
        let mut of_classes: Vec<u64> = (0..counts as u64).collect();
        let square = counts * self.classes.min(50);
        let mut confusion: Vec<u64> = (0..square as u64).collect();
        let (mut sums, mut more_sums) = (vec![0.5; weights], vec![0.5; losses]);
        let before = (shaped.clone(), of_rows.clone(), of_classes.clone(), confusion.clone());
        let given = &self.given[..];
        let result = match self.function {
            Function::RowLosses => loss.row_losses(given, labels, &mut of_rows).map(drop),
            Function::Loss => loss.loss(given, labels).map(drop),
            Function::Gradient => loss.gradient(given, labels, self.upstream(), &mut shaped).map(drop),
            Function::GradientInPlace => loss.gradient_in_place(&mut over, labels, self.upstream()).map(drop),
            Function::SoftRowLosses => loss.soft_row_losses(given, &self.soft, &mut of_rows).map(drop),
            Function::SoftGradient => loss.soft_gradient(given, &self.soft, self.upstream(), &mut shaped).map(drop),
            Function::FromProbabilities => {
                loss.row_losses_from_probabilities(given, labels, self.eps, &mut of_rows).map(drop)
            }
            Function::FromLogProbabilities => {
                loss.row_losses_from_log_probabilities(given, labels, &mut of_rows).map(drop)
            }
            Function::GradientFromLogProbabilities => {
                loss.gradient_from_log_probabilities(labels, self.upstream(), &mut shaped)
            }
            Function::LogProbabilities => loss.log_probabilities(given, &mut shaped),
            Function::LogSumExps => loss.log_sum_exps(given, &mut of_rows),
            Function::Decide => loss.decide(given, &mut decisions, Some(&mut of_rows)).map(drop),
            Function::DecideFromProbabilities => {
                loss.decide_from_probabilities(given, &mut decisions, Some(&mut of_rows)).map(drop)
            }
            Function::Alone => {
                weighted_row_losses(self.classes, given, labels, self.class_weights.as_deref(), &mut of_rows)
            }
            Function::Confusion => loss.add_confusion(given, labels, &mut confusion).map(drop),
            Function::ClassSums => {
                let sums = ClassSums { counts: &mut of_classes, weights: &mut sums, losses: &mut more_sums };
                loss.add_class_sums(labels, given, sums)
            }
            Function::CountLabels => count_labels(labels, self.ignored, &mut of_classes).map(drop),
        };
        let values: Vec<i64> = labels.iter().map(|label| label.value()).collect();
        let rules = self.rules(&values, confusion.len());
        match result {
            Ok(()) => {
                assert!(rules.broken.is_empty(), "{backend} accepted {:?}\n{self:?}", rules.broken);
                self.check_written(&values, &shaped, &of_rows, &over);
            }
            Err(error) => {
                let named = rules.broken.iter().chain(&rules.strict).any(|rule| *rule == error);
                assert!(named, "{backend} {error:?}, but the rules {rules:?}\n{self:?}");
                let raw = crate::common::raw_bits;
                let untouched = raw(&shaped) == raw(&before.0)
                    && raw(&of_rows) == raw(&before.1)
                    && (of_classes, confusion) == (before.2, before.3)
                    && decisions.iter().all(|&class| class == 7)
                    && raw(&over) == raw(given)
                    && sums.iter().chain(&more_sums).all(|&sum| sum == 0.5);
                assert!(untouched, "{backend} {error:?} has changed an output\n{self:?}");
            }
        }
    }

    /// Checks that a successful call wrote everything but the padding, with zeros for rows that do not count.
    fn check_written(&self, labels: &[i64], shaped: &[f32], of_rows: &[f32], over: &[f32]) {
        let shaped = match self.function {
            Function::Gradient
            | Function::SoftGradient
            | Function::LogProbabilities
            | Function::GradientFromLogProbabilities => Some((shaped, crate::common::pattern(shaped.len()))),
            Function::GradientInPlace => Some((over, self.given.clone())),
            _ => None,
        };
        let dense = self.classes.wrapping_mul(self.positions);
        let stride = self.stride.unwrap_or(dense);
        if let Some((found, before)) = shaped {
            for (at, (&x, &before)) in found.iter().zip(&before).enumerate() {
                let (inside, row) = (at % stride, at / stride * self.positions + at % stride % self.positions);
                if inside >= dense {
                    assert_eq!(x.to_bits(), before.to_bits(), "padding {at} has been written\n{self:?}");
                } else if self.function.has_labels() && Some(labels[row]) == self.ignored {
                    assert!(x == 0.0, "row {row} does not count: {x:e}\n{self:?}");
                } else {
                    // Computed elements are not a NaN of the pattern.
                    assert_ne!(x.to_bits() & !0xfff, 0x7fc5_a000, "{at} has not been written\n{self:?}");
                }
            }
        }
        if self.function.decides() {
            let written = of_rows.iter().all(|cost| cost.to_bits() & !0xfff != 0x7fc5_a000);
            assert!(written, "a row has not been written\n{self:?}");
        }
        if matches!(self.function, Function::RowLosses | Function::Alone | Function::FromProbabilities) {
            for (&x, &label) in of_rows.iter().zip(labels) {
                let skipped = self.function != Function::Alone && Some(label) == self.ignored;
                assert!(!skipped || x == 0.0, "{x:e} for a row that does not count\n{self:?}");
                assert_ne!(x.to_bits() & !0xfff, 0x7fc5_a000, "a row has not been written\n{self:?}");
            }
        }
    }

    /// The rules that this call breaks.
    fn rules(&self, labels: &[i64], cells: usize) -> Rules {
        let mut rules = Rules::default();
        let function = self.function;
        let classes = self.classes;
        if function == Function::CountLabels {
            let classes = self.lengths[2];
            rules.check(classes == 0, Error::NoClasses);
            rules.labels(labels, classes, self.ignored);
            return rules;
        }
        let own = |argument: Argument, expected: usize, found: usize| Error::Length { argument, expected, found };
        let weights = |rules: &mut Rules, may_be_negative: bool| {
            if let Some(weights) = &self.class_weights {
                let argument = Argument::ClassWeights;
                rules.check(weights.len() != classes, own(argument, classes, weights.len()));
                rules.numbers(argument, weights, may_be_negative);
            }
        };
        rules.check(classes == 0, Error::NoClasses);
        let alone = matches!(function, Function::Alone | Function::ClassSums);
        let (positions, stride) = if alone { (1, None) } else { (self.positions, self.stride) };
        rules.check(positions == 0, Error::OutOfRange { argument: Argument::Positions });
        let dense = classes.checked_mul(positions);
        rules.check(dense.is_none(), Error::SizeOverflow { rows: positions, row_stride: classes });
        let stride = stride.or(dense).unwrap_or(0);
        rules.check(dense.is_some_and(|dense| stride < dense), Error::OutOfRange { argument: Argument::RowStride });
        let (shaped, of_rows) = (self.lengths[0], self.lengths[1]);
        let found = if function == Function::GradientFromLogProbabilities { shaped } else { self.given.len() };
        let rows = if function.has_labels() {
            labels.len()
        } else {
            found.checked_div(stride).unwrap_or(0).saturating_mul(positions)
        };
        let samples = rows.checked_div(positions).unwrap_or(0);
        let whole = samples * positions;
        rules.check(whole != rows, own(Argument::Labels, whole, rows));
        let elements = samples.checked_mul(stride);
        rules.check(elements.is_none(), Error::SizeOverflow { rows: samples, row_stride: stride });
        if function != Function::ClassSums {
            let expected = elements.unwrap_or(found);
            rules.check(expected != found, own(function.argument(), expected, found));
        }
        if function.has_labels() {
            let ignored = if function == Function::Alone { None } else { self.ignored };
            rules.labels(labels, classes, ignored);
        }
        if function == Function::Alone {
            weights(&mut rules, true);
            rules.check(of_rows != rows, own(Argument::RowLosses, rows, of_rows));
            return rules;
        }
        let mut other = Rules::default();
        weights(&mut other, true);
        if let Some(weights) = &self.sample_weights {
            let argument = Argument::SampleWeights;
            other.check(weights.len() != rows, own(argument, rows, weights.len()));
            other.numbers(argument, weights, true);
        }
        if function == Function::ClassSums {
            rules.broken.append(&mut other.broken);
            rules.check(self.given.len() != rows, own(Argument::RowLosses, rows, self.given.len()));
            let lengths = [Argument::Counts, Argument::WeightSums, Argument::LossSums];
            for (argument, &found) in lengths.into_iter().zip(&self.lengths[2..]) {
                rules.check(found != classes, own(argument, classes, found));
            }
            return rules;
        }
        let out_of_range = |argument| Error::OutOfRange { argument };
        let not_positive = |x: f32| !(x.is_finite() && x >= 0.0);
        other.check(!(0.0..=1.0).contains(&self.smoothing), out_of_range(Argument::LabelSmoothing));
        other.check(not_positive(self.focal), out_of_range(Argument::Focal));
        other.check(not_positive(self.z_loss), out_of_range(Argument::ZLoss));
        if let Some(costs) = &self.mislabel_costs {
            let argument = Argument::MislabelCosts;
            let expected = classes.checked_mul(classes);
            other.check(expected.is_none(), Error::SizeOverflow { rows: classes, row_stride: classes });
            let cells = expected.unwrap_or(costs.len());
            other.check(costs.len() != cells, own(argument, cells, costs.len()));
            other.numbers(argument, costs, false);
            weights(&mut other, false);
            if let Some(class) = costs.iter().step_by(classes.saturating_add(1)).position(|&cost| cost != 0.0) {
                other.check(costs.len() == cells, Error::CostOfTruth { class });
            }
        }
        if function.decides() {
            weights(&mut rules, false);
            // A decision is a u32.
            rules.check(classes as u64 > u32::MAX.into(), Error::SizeOverflow { rows, row_stride: classes });
        }
        // Options without effect on this function may be refused or not.
        if matches!(function, Function::LogProbabilities | Function::LogSumExps | Function::Confusion) {
            rules.strict.append(&mut other.broken);
        } else {
            rules.broken.append(&mut other.broken);
        }
        rules.check(!(self.temperature.is_finite() && self.temperature > 0.0), out_of_range(Argument::Temperature));
        if let Some(bias) = &self.bias {
            rules.check(bias.len() != classes, own(Argument::ClassBias, classes, bias.len()));
            rules.numbers(Argument::ClassBias, bias, true);
        }
        if function == Function::FromProbabilities {
            rules.check(not_positive(self.eps), out_of_range(Argument::Eps));
        }
        self.incompatible(&mut rules);
        match function {
            Function::RowLosses | Function::FromProbabilities | Function::FromLogProbabilities => {
                rules.check(of_rows != rows, own(Argument::RowLosses, rows, of_rows));
            }
            Function::SoftRowLosses => {
                rules.check(of_rows != rows, own(Argument::RowLosses, rows, of_rows));
            }
            Function::Decide | Function::DecideFromProbabilities => {
                rules.check(of_rows != rows, own(Argument::Decisions, rows, of_rows));
            }
            Function::LogSumExps => rules.check(of_rows != rows, own(Argument::LogSumExps, rows, of_rows)),
            Function::LogProbabilities => {
                rules.check(shaped != found, own(Argument::LogProbabilities, found, shaped));
            }
            Function::Gradient | Function::SoftGradient => {
                rules.check(shaped != found, own(Argument::Gradient, found, shaped));
            }
            Function::Confusion => {
                let expected = classes.checked_mul(classes);
                rules.check(expected.is_none(), Error::SizeOverflow { rows: classes, row_stride: classes });
                let expected = expected.unwrap_or(cells);
                rules.check(expected != cells, own(Argument::Confusion, expected, cells));
            }
            _ => {}
        }
        if function.is_soft() {
            rules.check(self.soft.len() != found, own(Argument::Targets, found, self.soft.len()));
            // Padding may hold anything.
            let is_read = |at: usize| dense.zip(at.checked_rem(stride)).is_some_and(|(dense, at)| at < dense);
            let read = self.soft.iter().enumerate().map(|(at, &q)| if is_read(at) { q } else { 0.0 });
            rules.numbers(Argument::Targets, &read.collect::<Vec<f32>>(), true);
        }
        if function.has_upstream() {
            let argument = Argument::Upstream;
            match &self.factors {
                None => rules.numbers(argument, &[self.factor], true),
                Some(factors) => {
                    rules.check(factors.len() != rows, own(argument, rows, factors.len()));
                    rules.numbers(argument, factors, true);
                }
            }
        }
        if function.is_reduced() && self.policy == ZeroDenominator::Error {
            if !rules.broken.is_empty() {
                // The denominator is known here only for calls that are valid otherwise.
                rules.strict.push(Error::ZeroDenominator);
            } else {
                let (denominator, size) = self.denominator(labels, rows, stride);
                if size == 0.0 {
                    rules.broken.push(Error::ZeroDenominator);
                } else if denominator.abs() <= size * 1e-12 {
                    // Negative weights that cancel, in an order of addition of their own.
                    rules.strict.push(Error::ZeroDenominator);
                }
            }
        }
        rules
    }

    fn incompatible(&self, rules: &mut Rules) {
        let set = [
            (Argument::MislabelCosts, self.mislabel_costs.is_some()),
            (Argument::Focal, self.focal != 0.0),
            (Argument::IgnoreIndex, self.ignored.is_some()),
            (Argument::LabelSmoothing, self.smoothing != 0.0),
            (Argument::ZLoss, self.z_loss != 0.0),
            (Argument::Temperature, self.temperature != 1.0),
            (Argument::ClassBias, self.bias.is_some()),
        ];
        for (option, is_set) in set {
            let of_labels = matches!(option, Argument::MislabelCosts | Argument::Focal | Argument::IgnoreIndex);
            let of_logits = !matches!(option, Argument::MislabelCosts | Argument::IgnoreIndex);
            let with = match self.function {
                function if function.is_soft() && of_labels => Argument::Targets,
                Function::FromProbabilities | Function::DecideFromProbabilities if of_logits => Argument::Probabilities,
                Function::FromLogProbabilities | Function::GradientFromLogProbabilities
                    if of_logits || option == Argument::MislabelCosts =>
                {
                    Argument::LogProbabilities
                }
                _ => continue,
            };
            rules.check(is_set, Error::Incompatible { option, with });
        }
    }

    /// The denominator, and the sum of the magnitudes of its terms.
    fn denominator(&self, labels: &[i64], rows: usize, stride: usize) -> (f64, f64) {
        let soft = self.function.is_soft();
        let default = if self.mislabel_costs.is_some() || soft { Denominator::Rows } else { Denominator::WeightSum };
        let weight = |class: usize| self.class_weights.as_ref().map_or(1.0, |weights| f64::from(weights[class]));
        let (mut counted, mut weight_sum, mut sample_sum) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
        let add = |sum: &mut (f64, f64), term: f64| (sum.0, sum.1) = (sum.0 + term, sum.1 + term.abs());
        for row in 0..rows {
            let sample = self.sample_weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
            if soft {
                let start = row / self.positions * stride + row % self.positions;
                for class in 0..self.classes {
                    let q = f64::from(self.soft[start + class * self.positions]);
                    add(&mut weight_sum, weight(class) * q * sample);
                }
            } else if Some(labels[row]) == self.ignored {
                continue;
            } else {
                add(&mut weight_sum, weight(labels[row] as usize) * sample);
            }
            add(&mut counted, 1.0);
            add(&mut sample_sum, sample);
        }
        match self.reduction.unwrap_or(Reduction::Mean(default)) {
            Reduction::Mean(Denominator::WeightSum) => weight_sum,
            Reduction::Mean(Denominator::SampleWeightSum) => sample_sum,
            Reduction::Mean(_) => counted,
            _ => (1.0, 1.0),
        }
    }
}

/// Errors that a call may return.
#[derive(Debug, Default)]
struct Rules {
    /// If there are any, the call must fail, with one of these or of `strict`.
    broken: Vec<Error>,
    /// Errors that are allowed, but not required.
    strict: Vec<Error>,
}

impl Rules {
    fn check(&mut self, broken: bool, error: Error) {
        if broken {
            self.broken.push(error);
        }
    }

    /// The first number that is not finite, and the first that is negative.
    fn numbers(&mut self, argument: Argument, numbers: &[f32], may_be_negative: bool) {
        if let Some(index) = numbers.iter().position(|x| !x.is_finite()) {
            self.broken.push(Error::NotFinite { argument, index });
        }
        if let Some(index) = numbers.iter().position(|&x| x < 0.0).filter(|_| !may_be_negative) {
            self.broken.push(Error::Negative { argument, index });
        }
    }

    fn labels(&mut self, labels: &[i64], classes: usize, ignored: Option<i64>) {
        let bad = |&label: &i64| Some(label) != ignored && usize::try_from(label).map_or(true, |y| y >= classes);
        if let Some(row) = labels.iter().position(bad) {
            self.broken.push(Error::LabelOutOfRange { row, label: labels[row], classes });
        }
    }
}

/// A label by a cast.
trait Make: Label {
    fn make(label: i64) -> Self;
}

macro_rules! make {
    ($($integer:ty),*) => {$(
        impl Make for $integer {
            fn make(label: i64) -> Self {
                label as Self
            }
        }
    )*};
}
make!(u8, u16, u32, i32, i64, usize);
