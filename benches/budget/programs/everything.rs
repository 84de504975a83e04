//! A call of everything that computes, for one type of labels and all types of logits that need no feature.

use rwwce::*;
use std::hint::black_box;

fn main() -> Result<(), Error> {
    let mut out = black_box([0.0f32; 10]);
    let (classes, logits, labels) = black_box((10, [0.0f32; 10], [1i64]));
    let (row, costs, mut confusion) = black_box(([1.0f32; 10], [0.0f32; 100], [0u64; 100]));
    let bytes = black_box([1i8; 10]);
    let quantized = Logits::I8 { values: &bytes, scale: black_box(0.5), zero_point: black_box(0) };

    let mut loss = CrossEntropy::new(classes).class_weights(&row).sample_weights(&row[..1]).class_bias(&row);
    loss = loss.mislabel_costs(&costs).label_smoothing(row[0]).focal(row[1]).z_loss(row[2]).temperature(row[3]);
    loss = loss.positions(black_box(1)).row_stride(classes).ignore_index(labels[0]).backend(Backend::active());
    loss = loss.reduction(black_box(Reduction::Sum)).zero_denominator(black_box(ZeroDenominator::NaN));
    for logits in [Logits::F32(&logits), quantized] {
        black_box(loss.loss(logits, &labels)?);
        black_box(loss.row_losses(logits, &labels, &mut out[..1])?);
        black_box(loss.gradient(logits, &labels, 1.0, &mut out)?);
        black_box(loss.soft_loss(logits, &row)?);
        black_box(loss.soft_row_losses(logits, &row, &mut out[..1])?);
        black_box(loss.soft_gradient(logits, &row, 1.0, &mut out)?);
        loss.log_probabilities(logits, &mut out)?;
        loss.log_sum_exps(logits, &mut out[..1])?;
        black_box(loss.add_confusion(logits, &labels, &mut confusion)?);
        black_box(log_sum_exp(logits));
        let mut partial = RowPartial::new(logits, black_box(Some(1)))?;
        partial.merge(&black_box(partial));
        black_box((partial.loss(row[0])?, partial.log_sum_exp()));
        partial.gradient(logits, black_box(None), 1.0, &mut out)?;
    }
    black_box(loss.gradient_in_place(&mut out, &labels, Upstream::from(row[0]))?);
    black_box(loss.soft_gradient_in_place(&mut out, &row, &row[..1])?);
    black_box(loss.loss_from_probabilities(&row, &labels, row[0])?);
    black_box(loss.row_losses_from_probabilities(&row, &labels, row[0], &mut out[..1])?);
    black_box(loss.loss_from_log_probabilities(&row, &labels)?);
    black_box(loss.row_losses_from_log_probabilities(&row, &labels, &mut out[..1])?);
    loss.gradient_from_log_probabilities(&labels, 1.0, &mut out)?;
    weighted_row_losses(classes, &logits, &labels, Some(&row), &mut out[..1])?;

    let (mut counts, mut sums, mut more_sums) = black_box(([0u64; 10], [0.0f64; 10], [0.0f64; 10]));
    loss.add_class_sums(
        &labels,
        &row[..1],
        ClassSums { counts: &mut counts, weights: &mut sums, losses: &mut more_sums },
    )?;
    black_box(decision_cost(&confusion, &row, &costs)?);
    black_box(count_labels(&labels, black_box(None), &mut counts)?);
    ClassWeights::new(black_box(Scheme::Balanced)).from_counts(&counts, &mut out)?;

    let binary = BinaryCrossEntropy::new(classes).miss_costs(&row).false_alarm_costs(&row).sample_weights(&row[..1]);
    for logits in [Logits::F32(&logits), quantized] {
        black_box(binary.loss(logits, &row)?);
        black_box(binary.row_losses(logits, &row, &mut out)?);
        black_box(binary.gradient(logits, &row, 1.0, &mut out)?);
    }
    black_box(binary.gradient_in_place(&mut out, &row, 1.0)?);
    black_box((out, counts, sums, more_sums, confusion));
    Ok(())
}
