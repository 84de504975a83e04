//! The loss as an operation of burn, with its gradient, on the CPU (the backend Flex, which takes the place of ndarray's):
//! logits of f32, bf16 and f16 are read where they are.
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

/// What mistakes cost.
#[derive(Clone, Debug)]
struct Costs {
    /// `[C]`
    class_weights: Vec<f32>,
    /// `[C, C]`, row = truth, or none
    mislabel_costs: Option<Vec<f32>>,
}

/// The loss of logits `[N, C]` and labels `[N]`, `[1]` of f32: the mean over the weight sum or, with mislabel costs, over the
/// rows. Panics where a shape or a label is wrong, as burn does.
fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, costs: &Costs) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::cross_entropy(logits.into_dispatch(), labels.into_dispatch(), costs.clone()))
}

/// A backend that has the loss.
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
                // Loss and gradient are one call, so that the logits need not be kept for a second.
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

/// The way back.
#[derive(Debug)]
struct Gradient;

impl Backward<Flex, 1> for Gradient {
    /// The gradient of the loss, and the type of the logits.
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

/// Both with their elements in order, the labels of i64: a copy only where that is not so already.
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

/// A linear classifier, trained on points of three classes: what it is before and after.
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
    (0..99).for_each(|_| drop(step(0.5)));
    (before, step(0.0))
}

fn main() {
    // Class 2 is rare. To miss it costs 5, and 3 more if class 0 is said.
    let class_weights = vec![1.0, 1.0, 5.0];
    let mislabel_costs = Some(vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
    for costs in [Costs { class_weights: class_weights.clone(), mislabel_costs: None }, Costs { class_weights, mislabel_costs }] {
        let (before, after) = train(&costs);
        println!("loss {before} before the training, {after} after");
    }
}
