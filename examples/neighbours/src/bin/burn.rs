//! The loss as a custom operation of burn on the CPU, with its gradient (backend Flex, the successor of the ndarray
//! backend); logits in f32, bf16 and f16 are read in place.
//!
//! `cargo run --bin burn`

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Device, FloatDType, Int, IntDType, Tensor, TensorData, bf16, f16};
use rwwce::{CrossEntropy, Logits};

/// Costs of mistakes.
#[derive(Clone, Debug)]
struct Costs {
    /// `[C]`
    class_weights: Vec<f32>,
    /// `[C, C]`, row = truth
    mislabel_costs: Option<Vec<f32>>,
}

/// Loss of logits `[N, C]` and labels `[N]`, `[1]` in f32: the mean over the weight sum or, with mislabel costs, over
/// the rows. Panics on invalid shapes and labels, as burn does.
fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, costs: &Costs) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::cross_entropy(logits.into_dispatch(), labels.into_dispatch(), costs.clone()))
}

/// Backends with the loss.
#[backend_extension(Flex, Autodiff)]
trait CostsBackend: Backend {
    fn cross_entropy(logits: FloatTensor<Self>, labels: IntTensor<Self>, costs: Costs) -> FloatTensor<Self>;
}

impl CostsBackend for Flex {
    fn cross_entropy(logits: FloatTensor<Self>, labels: IntTensor<Self>, costs: Costs) -> FloatTensor<Self> {
        let [logits, labels] = in_order(logits, labels);
        let loss = costs.loss(&logits).loss(logits_of(&logits), labels.as_slice::<i64>().expect("labels of i64"));
        scalar(loss.unwrap_or_else(|error| panic!("{error}")).loss)
    }
}

impl<C: CheckpointStrategy> CostsBackend for Autodiff<Flex, C> {
    fn cross_entropy(logits: FloatTensor<Self>, labels: IntTensor<Self>, costs: Costs) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        match Gradient.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                // Loss and gradient in one call, so that the logits need not be kept for the backward pass.
                let [logits, labels] = in_order(logits, labels);
                let mut gradient = vec![0.0; logits.shape().num_elements()];
                let labels = labels.as_slice::<i64>().expect("labels of i64");
                let loss = costs.loss(&logits).gradient(logits_of(&logits), labels, 1.0, &mut gradient);
                let loss = scalar(loss.unwrap_or_else(|error| panic!("{error}")).loss);
                let gradient = FloatTensor::<Flex>::from_data(TensorData::new(gradient, logits.shape()));
                prep.finish((gradient, logits.dtype()), loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::cross_entropy(logits, labels, costs)),
        }
    }
}

/// Backward pass.
#[derive(Debug)]
struct Gradient;

impl Backward<Flex, 1> for Gradient {
    /// Gradient of the loss, and dtype of the logits.
    type State = (FloatTensor<Flex>, DType);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<Flex>(&ops.node);
        let ([parent], (gradient, dtype)) = (ops.parents, ops.state);
        if let Some(parent) = parent {
            let gradient = Flex::float_mul(gradient, Flex::float_reshape(upstream, [1, 1].into()));
            gradients.register::<Flex>(parent.id, Flex::float_cast(gradient, FloatDType::from(dtype)));
        }
    }
}

impl Costs {
    fn loss(&self, logits: &FloatTensor<Flex>) -> CrossEntropy<'_> {
        let loss = CrossEntropy::new(logits.shape()[1]).class_weights(&self.class_weights);
        self.mislabel_costs.as_ref().map_or(loss, |costs| loss.mislabel_costs(costs))
    }
}

/// Contiguous logits and i64 labels, copied only if they are not that already.
fn in_order(logits: FloatTensor<Flex>, labels: IntTensor<Flex>) -> [FloatTensor<Flex>; 2] {
    [logits, Flex::int_cast(labels, IntDType::I64)]
        .map(|tensor| if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() })
}

fn logits_of(logits: &FloatTensor<Flex>) -> Logits<'_> {
    let in_order = "logits in order";
    match logits.dtype() {
        DType::F32 => logits.as_slice::<f32>().expect(in_order).into(),
        DType::F16 => logits.as_slice::<f16>().expect(in_order).into(),
        DType::BF16 => logits.as_slice::<bf16>().expect(in_order).into(),
        other => panic!("logits are f32, f16 or bf16, not {other:?}"),
    }
}

fn scalar(number: f32) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(vec![number], [1]))
}

/// Losses of a linear classifier before and after training on points of three classes.
fn train(costs: &Costs) -> (f32, f32) {
    let device = Device::flex().autodiff();
    let (points, labels) = rwwce_neighbours::points(300);
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [300]), &device);
    let points = Tensor::<2>::from_data(TensorData::new(points, [300, 2]), &device);
    let (mut weight, mut bias) = (Tensor::<2>::zeros([2, 3], &device), Tensor::<2>::zeros([1, 3], &device));
    let mut step = |rate: f32| {
        (weight, bias) = (weight.clone().detach().require_grad(), bias.clone().detach().require_grad());
        let logits = points.clone().matmul(weight.clone()) + bias.clone();
        let loss = cross_entropy(logits, labels.clone(), costs);
        let gradients = loss.backward();
        for parameter in [&mut weight, &mut bias] {
            let gradient = parameter.grad(&gradients).expect("a gradient of each parameter");
            *parameter = Tensor::from_inner(parameter.clone().inner() - gradient * rate);
        }
        loss.into_scalar::<f32>()
    };

    let before = step(0.5);
    for _ in 1..100 {
        step(0.5);
    }
    (before, step(0.0))
}

fn main() {
    // Class 2 is rare. Missing it costs 5, and 3 more if the decision is class 0.
    let class_weights = vec![1.0, 1.0, 5.0];
    let mislabel_costs = Some(vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
    for costs in
        [Costs { class_weights: class_weights.clone(), mislabel_costs: None }, Costs { class_weights, mislabel_costs }]
    {
        let (before, after) = train(&costs);
        println!("loss {before} before the training, {after} after");
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::loss::CrossEntropyLossConfig;
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

    fn device() -> Device {
        Device::flex().autodiff()
    }

    /// Logits that bf16 and f16 represent exactly.
    fn logits(dtype: FloatDType) -> Tensor<2> {
        let numbers: Vec<f32> = (0..12).map(|i| (i * i * 5 % 13) as f32 / 4.0 - 1.5).collect();
        Tensor::<2>::from_data(TensorData::new(numbers, [4, 3]), &device()).cast(dtype).detach().require_grad()
    }

    fn labels(labels: &[u32]) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(labels.to_vec(), [labels.len()]), &device())
    }

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.cast(FloatDType::F32).into_data().try_into_vec().unwrap()
    }

    /// The loss and its gradient with respect to the logits.
    fn evaluate(logits: &Tensor<2>, loss: impl Fn(Tensor<2>) -> Tensor<1>) -> (f32, Vec<f32>) {
        let loss = loss(logits.clone());
        let gradient = logits.grad(&loss.backward()).unwrap();
        assert_eq!((gradient.dims(), gradient.dtype()), (logits.dims(), logits.dtype()));
        (loss.into_scalar(), numbers(gradient))
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
    fn without_mislabel_costs_it_is_the_loss_of_burn() {
        let logits = logits(FloatDType::F32);
        for costs in [even(), weighted()] {
            let theirs = CrossEntropyLossConfig::new().with_weights(Some(costs.class_weights.clone())).init(&device());
            let (loss, gradient) = evaluate(&logits, |logits| cross_entropy(logits, labels(&LABELS), &costs));
            let (of_burn, expected) = evaluate(&logits, |logits| theirs.forward(logits, labels(&LABELS)));
            assert_near(&[loss], [f64::from(of_burn)], 1e-6);
            assert_near(&gradient, expected.into_iter().map(f64::from), 1e-6);
        }
    }

    #[test]
    fn with_costs_it_is_the_textbook_in_every_type() {
        for (costs, denominator) in [(weighted(), 11.5), (mislabelled(), 4.0)] {
            for (dtype, tolerance) in [(FloatDType::F32, 1e-6), (FloatDType::F16, 1e-3), (FloatDType::BF16, 8e-3)] {
                let logits = logits(dtype);
                // The factor 2 of the loss is the upstream gradient.
                let (loss, gradient) = evaluate(&logits, |logits| cross_entropy(logits, labels(&LABELS), &costs) * 2.0);
                let wide: Vec<f64> = numbers(logits).into_iter().map(f64::from).collect();
                let (weights, costs) = (&costs.class_weights, costs.mislabel_costs.as_deref());
                assert_near(&[loss], [2.0 * textbook(&wide, &LABELS, weights, costs) / denominator], 1e-6);
                let expected = differences(&wide, &LABELS, weights, costs).into_iter().map(|g| 2.0 * g / denominator);
                assert_near(&gradient, expected, tolerance);
            }
        }
    }

    #[test]
    fn views_and_tensors_without_a_gradient_are_read_as_what_they_show() {
        let (logits, costs) = (logits(FloatDType::F32), mislabelled());
        let (loss, gradient) = evaluate(&logits, |logits| cross_entropy(logits, labels(&LABELS), &costs));
        // A transposed view of column-major memory.
        let columns = Tensor::<2>::from_data(logits.clone().transpose().into_data(), &device()).require_grad();
        let (by_columns, found) =
            evaluate(&columns, |columns| cross_entropy(columns.transpose(), labels(&LABELS), &costs));
        let found: Vec<f32> = (0..12).map(|i| found[i % 3 * 4 + i / 3]).collect();
        assert_eq!((by_columns, found), (loss, gradient));
        // Rows from the middle, with a start offset; and a device without autodiff.
        let some = logits.clone().narrow(0, 1, 2).into_data();
        let wide: Vec<f64> = some.iter::<f64>().collect();
        let expected = textbook(&wide, &LABELS[1..3], &costs.class_weights, costs.mislabel_costs.as_deref()) / 2.0;
        let of_rows = cross_entropy(logits.clone().narrow(0, 1, 2), labels(&LABELS).narrow(0, 1, 2), &costs);
        assert_near(&[of_rows.into_scalar()], [expected], 1e-6);
        let plain = Device::flex();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(LABELS.to_vec(), [4]), &plain);
        let without = cross_entropy(Tensor::from_data(logits.into_data(), &plain), labels, &costs);
        assert_eq!(without.into_scalar::<f32>(), loss);
    }

    #[test]
    #[should_panic(expected = "label 3")]
    fn a_wrong_label_is_named() {
        cross_entropy(logits(FloatDType::F32), labels(&[0, 1, 2, 3]), &even());
    }

    #[test]
    fn a_training_lowers_the_loss() {
        for costs in [even(), weighted(), mislabelled()] {
            let (before, after) = train(&costs);
            assert!(after < 0.7 * before, "{costs:?}: {before}, then {after}");
        }
    }

    #[test]
    fn the_program_runs() {
        main();
    }
}
