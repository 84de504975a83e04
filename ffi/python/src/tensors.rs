//! The loss of small batches of PyTorch tensors, read by the C functions of DLPack in a tenth of the time that reading
//! their attributes in Python takes.

use core::ffi::{CStr, c_char, c_void};
use core::mem::MaybeUninit;
use core::ptr;

use dlpack_rs::ffi::{
    DLDataType, DLDevice, DLPACK_MAJOR_VERSION, DLPackExchangeAPI, DLTensor, K_DL_CPU, K_DL_FLOAT, K_DL_INT,
};
use kernel::{CrossEntropy, Logits, Upstream};
use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::arrays::{Array, Targets, refused, slice, slice_mut};
use crate::losses::{OfLabels, Work, answer, computed, reduction};
use crate::settings::forced;

/// The functions by which PyTorch lends and makes tensors: the table in the capsule `__dlpack_c_exchange_api__` of
/// their type.
struct Exchange<'py> {
    py: Python<'py>,
    table: &'py DLPackExchangeAPI,
}

/// Shape and first element of a dense tensor on the CPU.
struct Dense<const DIMENSIONS: usize> {
    shape: [usize; DIMENSIONS],
    address: usize,
}

impl<const DIMENSIONS: usize> Dense<DIMENSIONS> {
    fn array(&self) -> Array {
        (self.address, self.shape.iter().product())
    }
}

const F32: DLDataType = DLDataType { code: K_DL_FLOAT, bits: 32, lanes: 1 };
const I64: DLDataType = DLDataType { code: K_DL_INT, bits: 64, lanes: 1 };

impl<'py> Exchange<'py> {
    /// None if the table has another version.
    fn of(capsule: &'py Bound<'py, PyCapsule>) -> PyResult<Option<Self>> {
        let table = capsule.pointer_checked(Some(c"dlpack_exchange_api"))?;
        // SAFETY: a capsule of this name holds such a table, which lives as long as the process.
        let table = unsafe { table.cast::<DLPackExchangeAPI>().as_ref() };
        Ok((table.header.version.major == DLPACK_MAJOR_VERSION).then_some(Self { py: capsule.py(), table }))
    }

    /// None if the tensor has no memory of its own, gaps, other elements, or another number of dimensions, or is on
    /// another device.
    fn dense<const DIMENSIONS: usize>(
        &self,
        tensor: &Bound<'_, PyAny>,
        elements: DLDataType,
    ) -> Option<Dense<DIMENSIONS>> {
        let mut view = MaybeUninit::<DLTensor>::uninit();
        let lend = self.table.dltensor_from_py_object_no_sync?;
        // SAFETY: the function writes the structure, or sets an exception and does not answer 0.
        let view = unsafe {
            if lend(tensor.as_ptr().cast(), view.as_mut_ptr()) != 0 {
                drop(PyErr::take(self.py));
                return None;
            }
            view.assume_init()
        };
        let found = view.dtype;
        let is_expected = (found.code, found.bits, found.lanes) == (elements.code, elements.bits, elements.lanes)
            && view.device.device_type == K_DL_CPU
            && usize::try_from(view.ndim) == Ok(DIMENSIONS);
        if !is_expected {
            return None;
        }
        let (mut shape, mut stride) = ([0; DIMENSIONS], 1);
        for (dimension, length) in shape.iter_mut().enumerate().rev() {
            // SAFETY: both arrays have an element for each dimension.
            let (of_shape, of_strides) = unsafe { (*view.shape.add(dimension), *view.strides.add(dimension)) };
            if of_strides != stride && of_shape != 1 {
                return None;
            }
            *length = usize::try_from(of_shape).ok()?;
            stride = stride.checked_mul(of_shape)?;
        }
        let address = view.data.expose_provenance();
        (address != 0 || stride == 0).then_some(Dense { shape, address: address + view.byte_offset as usize })
    }

    /// A new f32 tensor on the CPU, and the address of its elements.
    fn tensor(&self, shape: &[usize]) -> PyResult<(Bound<'py, PyAny>, usize)> {
        let (Some(allocate), Some(give)) =
            (self.table.managed_tensor_allocator, self.table.managed_tensor_to_py_object_no_sync)
        else {
            return Err(PyRuntimeError::new_err("DLPack: expected functions that make tensors"));
        };
        let mut lengths = [0; 2];
        for (length, &of_shape) in lengths.iter_mut().zip(shape) {
            *length = of_shape as i64;
        }
        let mut prototype = DLTensor {
            data: ptr::null_mut(),
            device: DLDevice { device_type: K_DL_CPU, device_id: 0 },
            ndim: shape.len() as i32,
            dtype: F32,
            shape: lengths.as_mut_ptr(),
            strides: ptr::null_mut(),
            byte_offset: 0,
        };
        let (mut error, mut managed, mut object) = (None::<PyErr>, ptr::null_mut(), ptr::null_mut());
        // SAFETY: the functions take these types; what the first made the second takes over.
        unsafe {
            if allocate(&raw mut prototype, &raw mut managed, (&raw mut error).cast(), Some(keep_error)) != 0 {
                return Err(error.unwrap_or_else(|| PyMemoryError::new_err("DLPack: no tensor")));
            }
            let address = (*managed).dl_tensor.data.expose_provenance();
            if give(managed, &raw mut object) != 0 {
                return Err(PyErr::fetch(self.py));
            }
            Ok((Bound::from_owned_ptr(self.py, object.cast()), address))
        }
    }
}

/// # Safety
///
/// `error` is the address of an `Option<PyErr>`, `message` that of a C string.
unsafe extern "C" fn keep_error(error: *mut c_void, _kind: *const c_char, message: *const c_char) {
    // SAFETY: as the caller has promised.
    unsafe {
        let message = CStr::from_ptr(message).to_string_lossy().into_owned();
        *error.cast::<Option<PyErr>>() = Some(PyRuntimeError::new_err(message));
    }
}

/// Number of logits from which on the interpreter lock (GIL) is released: letting go of it and taking it again takes
/// longer than the loss of fewer.
const LONG: usize = 1 << 12;

/// The loss, and its gradient if wanted.
#[derive(IntoPyObject)]
pub(crate) enum Found<'py> {
    Loss(Bound<'py, PyAny>),
    WithGradient(Bound<'py, PyAny>, Bound<'py, PyAny>),
}

/// The weighted loss of f32 logits `[rows, classes]`, labels of 64 bits and class weights, with an ignored index, as
/// mean or sum, and its gradient if wanted.
///
/// Answers None if a tensor has another type, layout, device or number of dimensions, or there is not a label for each
/// row.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "a call has no time to make an object of them")]
pub(crate) fn usual<'py>(
    exchange: &'py Bound<'py, PyCapsule>,
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    ignored: i64,
    mean: bool,
    is_gradient_wanted: bool,
) -> PyResult<Option<Found<'py>>> {
    let Some(exchange) = Exchange::of(exchange)? else { return Ok(None) };
    let (Some(input), Some(target)) = (exchange.dense::<2>(input, F32), exchange.dense::<1>(target, I64)) else {
        return Ok(None);
    };
    let weights = match weight.map(|weight| exchange.dense::<1>(weight, F32)) {
        Some(None) => return Ok(None),
        weights => weights.flatten(),
    };
    let [rows, classes] = input.shape;
    if target.shape != [rows] {
        return Ok(None);
    }
    let (found, loss_out) = exchange.tensor(&[])?;
    let mut gradient = None;
    let mut loss = CrossEntropy::new(classes).ignore_index(ignored).reduction(reduction(u8::from(mean)));
    let mut work = Work::Loss;
    // SAFETY: the tensors are arguments of this call.
    let (logits, labels) = unsafe { (slice(input.array()), Targets::I64(slice(target.array()))) };
    if let Some(weights) = &weights {
        // SAFETY: as above.
        loss = loss.class_weights(unsafe { slice(weights.array()) });
    }
    if is_gradient_wanted {
        let (tensor, address) = exchange.tensor(&input.shape)?;
        gradient = Some(tensor);
        // SAFETY: the tensor is new, and of this shape.
        work = Work::Gradient(Upstream::Loss(1.0), unsafe { slice_mut((address, logits.len())) });
    }
    if let Some(backend) = forced() {
        loss = loss.backend(backend);
    }
    let call = OfLabels { loss, logits: Logits::F32(logits), work };
    let compute = || computed(call, &labels).map(|summary| answer(summary, loss_out));
    if logits.len() < LONG { compute() } else { exchange.py.detach(compute) }.map_err(refused)?;
    Ok(Some(gradient.map_or(Found::Loss(found.clone()), |gradient| Found::WithGradient(found, gradient))))
}
