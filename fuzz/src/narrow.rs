//! Logits in i8, u8, f16 and bf16 give the bits of the same f32, by every function that takes them.

use crate::backends;
use crate::batch::{Batch, Content, Factors};
use crate::options::Options;
use crate::stored::Stored;
use crate::weighted::same_numbers;
use arbitrary::{Arbitrary, Result, Unstructured};
use half::{bf16, f16};
use rwwce::{Backend, BinaryCrossEntropy, Logits, RowPartial};

/// The functions called: one kind per input.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Function {
    Weighted,
    Labels,
    Soft,
    Logs,
    Binary,
    Part,
    Decisions,
}

impl Stored {
    /// `len` logits by their bits.
    fn new(u: &mut Unstructured<'_>, len: usize) -> Result<Self> {
        let kind = u.arbitrary::<u8>()? % 4;
        let scale = *u.choose(&[0.05, 0.25, 1.0, 1.5, 3e38, 1e-40, f32::MIN_POSITIVE])?;
        let zero = i32::from(u.arbitrary::<u8>()?);
        // A few bit patterns over and over, since an input is short.
        let palette: Vec<u16> = (0..u.int_in_range(1..=24)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
        let bits = (0..len).map(|at| palette[(at + at / palette.len()) % palette.len()]);
        Ok(match kind {
            0 => Self::I8(bits.map(|bits| bits as i8).collect(), scale, zero - 128),
            1 => Self::U8(bits.map(|bits| bits as u8).collect(), scale, zero),
            2 => Self::F16(bits.map(f16::from_bits).collect()),
            _ => Self::Bf16(bits.map(bf16::from_bits).collect()),
        })
    }
}

pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let function = Function::arbitrary(u)?;
    let ignored = !matches!(function, Function::Soft);
    let content = Content {
        mostly_finite: true,
        negative_weights: false,
        ignored,
        moderate_weights: false,
        no_tiny_weights: false,
        most_classes: 600,
    };
    let batch = Batch::new(u, content)?;
    let options = Options::mild(u, &batch)?;
    let factors = Factors::new(u, batch.rows())?;
    let stored = Stored::new(u, batch.logits.len())?;
    let widened = stored.widened();
    for backend in backends(u)? {
        let of = |logits: Logits<'_>| results(function, &batch, &options, &factors, backend, logits);
        let (found, expected) = (of(stored.logits()), of(Logits::F32(&widened)));
        if !same_numbers(&found, &expected) {
            let at = found.iter().zip(&expected).position(|(a, b)| !same_numbers(&[*a], &[*b]));
            let numbers = at.map(|at| (found[at], expected[at]));
            panic!("{backend} number {at:?}: {numbers:?}\n{function:?} {stored:?} {batch:?} {options:?} {factors:?}");
        }
    }
    Ok(())
}

fn results(
    function: Function,
    batch: &Batch,
    options: &Options,
    factors: &Factors,
    backend: Backend,
    logits: Logits<'_>,
) -> Vec<f32> {
    let plain = batch.loss().backend(backend);
    let (mut of_rows, mut shaped) = (vec![7.0; batch.rows()], vec![7.0; logits.len()]);
    let labels = &batch.labels;
    match function {
        Function::Weighted | Function::Labels => {
            let loss =
                if matches!(function, Function::Labels) { options.of_labels(options.adjust(plain)) } else { plain };
            let summary = loss.row_losses(logits, labels, &mut of_rows).unwrap();
            let others = [
                loss.loss(logits, labels).unwrap(),
                loss.gradient(logits, labels, factors.upstream(), &mut shaped).unwrap(),
            ];
            of_rows.extend([summary.loss, others[0].loss, others[1].loss]);
        }
        Function::Soft => {
            let (loss, soft) = (options.of_soft(options.adjust(plain)), options.soft(batch));
            let summary = loss.soft_row_losses(logits, &soft, &mut of_rows).unwrap();
            let others = [
                loss.soft_loss(logits, &soft).unwrap(),
                loss.soft_gradient(logits, &soft, factors.upstream(), &mut shaped).unwrap(),
            ];
            of_rows.extend([summary.loss, others[0].loss, others[1].loss]);
        }
        Function::Logs => {
            let loss = options.adjust(plain);
            loss.log_probabilities(logits, &mut shaped).unwrap();
            loss.log_sum_exps(logits, &mut of_rows).unwrap();
        }
        Function::Binary => {
            let targets: Vec<f32> = options.soft(batch).iter().map(|q| q.abs().min(1.0)).collect();
            let loss = BinaryCrossEntropy::new(1).miss_costs(&[3.0]).backend(backend);
            let mut losses = vec![7.0; logits.len()];
            let summary = loss.row_losses(logits, &targets, &mut losses).unwrap();
            of_rows = vec![summary.loss, loss.loss(logits, &targets).unwrap().loss];
            loss.gradient(logits, &targets, 2.0, &mut shaped).unwrap();
            shaped.extend(losses);
        }
        Function::Part => {
            let part = RowPartial::with_backend(logits, Some(0), backend).unwrap();
            part.gradient(logits, Some(0), 2.0, &mut shaped).unwrap();
            // The bits of an f64 in four exact f32.
            let sum = part.excluded_sum.to_bits();
            let pieces = [0, 16, 32, 48].map(|shift| f32::from((sum >> shift) as u16));
            of_rows = vec![part.largest, part.label_logit, part.loss(2.0).unwrap(), backend.log_sum_exp(logits)];
            of_rows.extend(pieces);
        }
        Function::Decisions => {
            let mut confusion = vec![0; batch.classes * batch.classes];
            let undecided = options.adjust(plain).add_confusion(logits, labels, &mut confusion).unwrap();
            of_rows = confusion.iter().map(|&count| count as f32).collect();
            of_rows.push(undecided as f32);
            let (mut decisions, mut costs) = (vec![7; batch.rows()], vec![7.0; batch.rows()]);
            options.of_labels(options.adjust(plain)).decide(logits, &mut decisions, Some(&mut costs)).unwrap();
            of_rows.extend(decisions.iter().map(|&class| class as f32));
            of_rows.extend(costs);
        }
    }
    of_rows.extend(shaped);
    of_rows
}
