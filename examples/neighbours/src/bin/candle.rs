//! The loss as a custom operation of candle on the CPU, with its gradient; logits in f32, bf16 and f16 are read in
//! place.
//!
//! `cargo run --bin candle`

use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, Var, bail};
use candle_nn::{Linear, Module, Optimizer, SGD};
use rwwce::{CrossEntropy, Logits};

/// Costs of mistakes.
#[derive(Clone, Debug)]
struct Costs {
    /// `[C]`
    class_weights: Vec<f32>,
    /// `[C, C]`, row = truth
    mislabel_costs: Option<Vec<f32>>,
}

/// Loss of logits `[N, C]` and u32 labels `[N]`, an f32 scalar: the mean over the weight sum or, with mislabel costs,
/// over the rows.
fn cross_entropy(logits: &Tensor, labels: &Tensor, costs: &Costs) -> Result<Tensor> {
    // `contiguous` copies only non-contiguous tensors.
    logits.contiguous()?.apply_op2(&labels.contiguous()?, Loss(costs.clone()))
}

/// Operation: the loss.
struct Loss(Costs);

/// Operation: the gradient of the loss, not differentiable itself.
struct Gradient<'a>(&'a Costs);

impl Costs {
    fn loss(&self, classes: usize) -> CrossEntropy<'_> {
        let loss = CrossEntropy::new(classes).class_weights(&self.class_weights);
        self.mislabel_costs.as_ref().map_or(loss, |costs| loss.mislabel_costs(costs))
    }
}

/// The elements of a contiguous tensor.
fn elements<'a, T>(storage: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage[start..end]),
        None => bail!("logits and labels have to be contiguous"),
    }
}

fn logits_of<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Logits<'a>> {
    match storage {
        CpuStorage::F32(numbers) => Ok(elements(numbers, layout)?.into()),
        CpuStorage::F16(numbers) => Ok(elements(numbers, layout)?.into()),
        CpuStorage::BF16(numbers) => Ok(elements(numbers, layout)?.into()),
        other => bail!("logits are f32, f16 or bf16, not {:?}", candle_core::backend::BackendStorage::dtype(other)),
    }
}

fn labels_of<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [u32]> {
    match storage {
        CpuStorage::U32(labels) => elements(labels, layout),
        other => bail!("labels are u32, not {:?}", candle_core::backend::BackendStorage::dtype(other)),
    }
}

impl CustomOp2 for Loss {
    fn name(&self) -> &'static str {
        "rwwce"
    }

    fn cpu_fwd(&self, x: &CpuStorage, of_x: &Layout, y: &CpuStorage, of_y: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, classes) = of_x.shape().dims2()?;
        let loss = self.0.loss(classes).loss(logits_of(x, of_x)?, labels_of(y, of_y)?);
        Ok((CpuStorage::F32(vec![loss.map_err(candle_core::Error::wrap)?.loss]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, _: &Tensor, upstream: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = x.apply_op2_no_bwd(y, &Gradient(&self.0))?.broadcast_mul(upstream)?;
        Ok((Some(gradient.to_dtype(x.dtype())?), None))
    }
}

impl CustomOp2 for Gradient<'_> {
    fn name(&self) -> &'static str {
        "rwwce gradient"
    }

    fn cpu_fwd(&self, x: &CpuStorage, of_x: &Layout, y: &CpuStorage, of_y: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, classes) = of_x.shape().dims2()?;
        let (logits, labels) = (logits_of(x, of_x)?, labels_of(y, of_y)?);
        let mut gradient = vec![0.0; logits.len()];
        let loss = self.0.loss(classes);
        loss.gradient(logits, labels, 1.0, &mut gradient).map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(gradient), of_x.shape().clone()))
    }
}

/// Losses of a linear classifier before and after training on points of three classes.
fn train(costs: &Costs, dtype: DType) -> Result<(f32, f32)> {
    let (points, labels) = rwwce_neighbours::points(300);
    let points = Tensor::from_vec(points, (labels.len(), 2), &Device::Cpu)?.to_dtype(dtype)?;
    let labels = Tensor::from_vec(labels, points.dim(0)?, &Device::Cpu)?;
    let weight = Var::zeros((3, 2), dtype, &Device::Cpu)?;
    let bias = Var::zeros(3, dtype, &Device::Cpu)?;
    let model = Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()));
    let mut descent = SGD::new(vec![weight, bias], 0.5)?;
    let loss = || cross_entropy(&model.forward(&points)?, &labels, costs);

    let before = loss()?.to_scalar()?;
    for _ in 0..100 {
        descent.backward_step(&loss()?)?;
    }
    Ok((before, loss()?.to_scalar()?))
}

fn main() -> Result<()> {
    // Class 2 is rare. Missing it costs 5, and 3 more if the decision is class 0.
    let class_weights = vec![1.0, 1.0, 5.0];
    let mislabel_costs = Some(vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
    for costs in
        [Costs { class_weights: class_weights.clone(), mislabel_costs: None }, Costs { class_weights, mislabel_costs }]
    {
        for dtype in [DType::F32, DType::BF16] {
            let (before, after) = train(&costs, dtype)?;
            println!("{dtype:?}: loss {before} before the training, {after} after");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rwwce_neighbours::{differences, textbook};

    use super::*;

    const LABELS: [u32; 4] = [2, 0, 1, 2];

    fn even() -> Costs {
        Costs { class_weights: vec![1.0; 3], mislabel_costs: None }
    }

    fn weighted() -> Costs {
        Costs { class_weights: vec![1.0, 0.5, 5.0], mislabel_costs: None }
    }

    fn mislabelled() -> Costs {
        let costs = vec![0.0, 4.0, 1.0, 2.0, 0.0, 0.5, 20.0, 1.0, 0.0];
        Costs { mislabel_costs: Some(costs), ..weighted() }
    }

    /// Logits that bf16 and f16 represent exactly.
    fn logits(dtype: DType) -> Var {
        let numbers: Vec<f32> = (0..12).map(|i| (i * i * 5 % 13) as f32 / 4.0 - 1.5).collect();
        Var::from_tensor(&Tensor::from_vec(numbers, (4, 3), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap()
    }

    fn labels() -> Tensor {
        Tensor::new(&LABELS, &Device::Cpu).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// The loss and its gradient with respect to the logits.
    fn evaluate(logits: &Var, loss: impl Fn(&Tensor) -> Result<Tensor>) -> (f32, Vec<f32>) {
        let loss = loss(logits).unwrap();
        let gradient = loss.backward().unwrap().get(logits).unwrap().clone();
        assert_eq!((gradient.dims(), gradient.dtype()), (logits.dims(), logits.dtype()));
        (loss.to_scalar().unwrap(), numbers(&gradient))
    }

    fn assert_near(found: &[f32], expected: impl IntoIterator<Item = f64>, tolerance: f64) {
        for (&found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(found) - expected).abs() <= tolerance * (1.0 + expected.abs()),
                "{found}, expected {expected}"
            );
        }
    }

    #[test]
    fn without_costs_it_is_the_loss_of_candle() {
        let logits = logits(DType::F32);
        let (loss, gradient) = evaluate(&logits, |logits| cross_entropy(logits, &labels(), &even()));
        let (theirs, expected) = evaluate(&logits, |logits| candle_nn::loss::cross_entropy(logits, &labels()));
        assert_near(&[loss], [f64::from(theirs)], 1e-6);
        assert_near(&gradient, expected.into_iter().map(f64::from), 1e-6);
    }

    #[test]
    fn with_costs_it_is_the_textbook_in_every_type() {
        for (costs, denominator) in [(weighted(), 11.5), (mislabelled(), 4.0)] {
            for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
                let logits = logits(dtype);
                // The factor 2 of the loss is the upstream gradient.
                let (loss, gradient) =
                    evaluate(&logits, |logits| cross_entropy(logits, &labels(), &costs)?.affine(2.0, 0.0));
                let wide: Vec<f64> = numbers(&logits).into_iter().map(f64::from).collect();
                let (weights, costs) = (&costs.class_weights, costs.mislabel_costs.as_deref());
                assert_near(&[loss], [2.0 * textbook(&wide, &LABELS, weights, costs) / denominator], 1e-6);
                let expected = differences(&wide, &LABELS, weights, costs).into_iter().map(|g| 2.0 * g / denominator);
                assert_near(&gradient, expected, tolerance);
            }
        }
    }

    #[test]
    fn views_are_read_as_what_they_show() {
        let (logits, costs) = (logits(DType::F32), mislabelled());
        let whole = evaluate(&logits, |logits| cross_entropy(logits, &labels(), &costs));
        // A transposed view of column-major memory.
        let columns = Var::from_tensor(&logits.t().unwrap().contiguous().unwrap()).unwrap();
        let by_columns = cross_entropy(&columns.t().unwrap(), &labels(), &costs).unwrap();
        assert_eq!(by_columns.to_scalar::<f32>().unwrap(), whole.0);
        let gradient = by_columns.backward().unwrap().get(&columns).unwrap().t().unwrap();
        assert_eq!(numbers(&gradient), whole.1);
        // Rows from the middle, with a start offset.
        let some = |tensor: &Tensor| tensor.narrow(0, 1, 2);
        let found = cross_entropy(&some(&logits).unwrap(), &some(&labels()).unwrap(), &costs).unwrap();
        let wide: Vec<f64> = numbers(&logits)[3..9].iter().map(|&x| f64::from(x)).collect();
        let costs_of = costs.mislabel_costs.as_deref();
        let expected = textbook(&wide, &LABELS[1..3], &costs.class_weights, costs_of) / 2.0;
        assert_near(&[found.to_scalar().unwrap()], [expected], 1e-6);
    }

    #[test]
    fn what_is_wrong_is_an_error_of_candle() {
        let logits = logits(DType::F32);
        let wrong = |labels: &Tensor| cross_entropy(&logits, labels, &even()).unwrap_err().to_string();
        let found = wrong(&Tensor::new(&[0_u32, 1, 2, 3], &Device::Cpu).unwrap());
        assert!(found.contains("label 3") && found.contains("row 3"), "{found}");
        assert!(wrong(&Tensor::new(&[0_i64, 1, 2, 0], &Device::Cpu).unwrap()).contains("labels are u32"));
        assert!(
            wrong(&labels().narrow(0, 0, 3).unwrap()).contains("expected 9"),
            "{}",
            wrong(&labels().narrow(0, 0, 3).unwrap())
        );
    }

    #[test]
    fn a_training_lowers_the_loss() {
        for costs in [even(), weighted(), mislabelled()] {
            for dtype in [DType::F32, DType::BF16] {
                let (before, after) = train(&costs, dtype).unwrap();
                assert!(after < 0.7 * before, "{costs:?}, {dtype:?}: {before}, then {after}");
            }
        }
    }

    #[test]
    fn the_program_runs() {
        main().unwrap();
    }
}
