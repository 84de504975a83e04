//! Options of a call in C, and their conversion to the options of the library.

use core::alloc::Layout;
use core::ffi::c_char;
use core::mem::offset_of;
use core::slice;

use crate::arrays::{Arrays, value};
use crate::logits::{LogitType, rwwce_logit_type};
use crate::status::*;
use crate::threads::with_threads;
use kernel::{
    Backend, BinaryCrossEntropy, ClassWeights, CrossEntropy, Denominator, EmptyClass, Normalisation, Reduction, Scheme,
    Upstream, ZeroDenominator,
};

/// Reduction of the row losses: their sum, or their mean over a named denominator.
pub type rwwce_reduction = u32;

/// The mean over the weight sum; for target probabilities, mislabel costs and binary losses the mean over the rows.
pub const RWWCE_REDUCTION_DEFAULT: rwwce_reduction = 0;
/// The sum over the rows that count.
pub const RWWCE_REDUCTION_SUM: rwwce_reduction = 1;
/// The sum divided by Σ w[y]·s of the rows that count: the mean of PyTorch and ONNX with class indices.
pub const RWWCE_REDUCTION_MEAN_WEIGHT_SUM: rwwce_reduction = 2;
/// The sum divided by the number of rows that count: a mean written by hand; PyTorch's with target probabilities.
pub const RWWCE_REDUCTION_MEAN_ROWS: rwwce_reduction = 3;
/// The sum divided by Σ s of the rows that count: the mean of Keras and scikit-learn.
pub const RWWCE_REDUCTION_MEAN_SAMPLE_WEIGHT_SUM: rwwce_reduction = 4;
/// The sum divided by the number of rows that count times C.
pub const RWWCE_REDUCTION_MEAN_ROWS_TIMES_CLASSES: rwwce_reduction = 5;

/// Result of a mean whose denominator is 0.
pub type rwwce_zero_denominator = u32;

/// NaN, as in PyTorch.
pub const RWWCE_ZERO_DENOMINATOR_NAN: rwwce_zero_denominator = 0;
/// 0, in loss and gradient.
pub const RWWCE_ZERO_DENOMINATOR_ZERO: rwwce_zero_denominator = 1;
/// `RWWCE_ERROR_ZERO_DENOMINATOR`.
pub const RWWCE_ZERO_DENOMINATOR_ERROR: rwwce_zero_denominator = 2;

/// Formulas of class weights from the number of samples n_c of each class, with n = Σ n_c and C classes.
pub type rwwce_scheme = u32;

/// n / n_c
pub const RWWCE_SCHEME_INVERSE_FREQUENCY: rwwce_scheme = 1;
/// n / (C·n_c): scikit-learn's `class_weight="balanced"`.
pub const RWWCE_SCHEME_BALANCED: rwwce_scheme = 2;
/// (1 − β) / (1 − β^n_c): the effective number of samples (Cui et al., CVPR 2019).
pub const RWWCE_SCHEME_EFFECTIVE_NUMBER: rwwce_scheme = 3;
/// √(n / n_c)
pub const RWWCE_SCHEME_INVERSE_SQUARE_ROOT: rwwce_scheme = 4;
/// median(n_1 … n_C) / n_c over the classes that have samples (Eigen & Fergus, ICCV 2015).
pub const RWWCE_SCHEME_MEDIAN_FREQUENCY: rwwce_scheme = 5;

/// Scaling of class weights.
pub type rwwce_normalisation = u32;

/// As the formula of the scheme gives them.
pub const RWWCE_NORMALISATION_NONE: rwwce_normalisation = 0;
/// The weights of the classes with samples add up to 1.
pub const RWWCE_NORMALISATION_SUM: rwwce_normalisation = 1;
/// The weights of the classes with samples have the mean 1.
pub const RWWCE_NORMALISATION_MEAN: rwwce_normalisation = 2;

/// Weight of a class without samples.
pub type rwwce_empty_class = u32;

/// `RWWCE_ERROR_EMPTY_CLASS`, which names the class.
pub const RWWCE_EMPTY_CLASS_ERROR: rwwce_empty_class = 0;
/// `empty_class_weight`, which is not normalised.
pub const RWWCE_EMPTY_CLASS_WEIGHT: rwwce_empty_class = 1;

/// Options of the loss over C classes: shapes, weights and terms. Start from `RWWCE_OPTIONS_INIT(C)`.
///
/// A row is one of the N·D pairs of C logits and a label. A row whose label is the ignored index does not count. A
/// row whose total weight is 0 counts (in the number of rows) and contributes exactly 0 whatever its logits. An
/// absent array is NULL with a count of 0. Elements of arrays are finite.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rwwce_options {
    /// `sizeof(rwwce_options)`: later versions add members at the end. At most 4096.
    pub struct_size: usize,
    /// C, at least 1.
    pub classes: usize,
    /// D, at least 1: logits are `[N, C, D]`, the C logits of a row D elements apart. 1 for the flat `[N, C]`.
    pub positions: usize,
    /// Elements from the start of one sample to the start of the next, for padded samples; 0 for C·D.
    pub row_stride: usize,
    /// `[C]`: the weight w of each class; with mislabel costs the miss costs fn, then at least 0.
    pub class_weights: *const f32,
    /// C; 0 for NULL.
    pub class_weights_count: usize,
    /// `[N, D]`: the weight s of each row, which may be negative.
    pub sample_weights: *const f32,
    /// N·D; 0 for NULL.
    pub sample_weights_count: usize,
    /// `[C, C]`, at least 0, the diagonal 0: the cost fp[y,j] of predicting class j where y is true. The loss is then
    /// −fn[y]·log p_y − Σ_{j≠y} fp[y,j]·log(1 − p_j) (Ho & Wookey, IEEE Access 2020): fp comes on top of fn, the class
    /// weights, which are 1 when absent.
    pub mislabel_costs: *const f32,
    /// C·C; 0 for NULL.
    pub mislabel_costs_count: usize,
    /// `[C]`: a bias added to the logits of each class, after the division by the temperature.
    pub class_bias: *const f32,
    /// C; 0 for NULL.
    pub class_bias_count: usize,
    /// `[N, D]`: upstream gradient with respect to the row losses, not divided by the denominator of the mean. If
    /// absent, `upstream` is used.
    pub row_upstream: *const f32,
    /// N·D; 0 for NULL.
    pub row_upstream_count: usize,
    /// The label of ignored rows, if `has_ignore_index` is not 0.
    pub ignore_index: i64,
    /// Whether `ignore_index` is set.
    pub has_ignore_index: u32,
    /// The reduction.
    pub reduction: rwwce_reduction,
    /// The result of a mean whose denominator is 0.
    pub zero_denominator: rwwce_zero_denominator,
    /// Label smoothing ε in [0, 1]: (1 − ε) times the loss of the label plus ε/C times that of every class.
    pub label_smoothing: f32,
    /// Focal exponent γ, at least 0: the term of the label gets the factor (1 − p_y)^γ.
    pub focal: f32,
    /// Z-loss factor λ, at least 0: adds λ·W·(log Σ exp x)² to the loss of a row of weight W.
    pub z_loss: f32,
    /// Temperature T, above 0: logits are divided by T. 1 changes nothing.
    pub temperature: f32,
    /// Upstream gradient with respect to the reduced loss. 1 changes nothing.
    pub upstream: f32,
    /// The type of the logits. Calls that write over the logits, or read probabilities instead, refuse all but
    /// `RWWCE_LOGIT_F32`.
    pub logit_type: rwwce_logit_type,
    /// The scale of `RWWCE_LOGIT_I8` and `RWWCE_LOGIT_U8`, finite and above 0. Other types ignore it.
    pub logit_scale: f32,
    /// The zero point of `RWWCE_LOGIT_I8` and `RWWCE_LOGIT_U8`, in the range of the type.
    pub logit_zero_point: i32,
    /// Name of the backend; NULL for the best one.
    pub backend: *const c_char,
    /// A finite denominator instead of that of the reduction; NULL for that of the reduction. For a call on a part of
    /// the batch, give the denominator of the whole: see `rwwce_weigh`.
    pub denominator: *const f64,
    /// Threads over which losses and gradients of 2^18 logits (1 MB of float) or more are split, in the same bits; 0
    /// for the environment variable `RWWCE_THREADS`, or 1. More than 1 needs the feature `threads` of the library.
    pub threads: usize,
}

/// Options of the binary and multi-label loss −fn·t·log σ(z) − fp·(1 − t)·log(1 − σ(z)), one logit z per label. Start
/// from `RWWCE_BINARY_OPTIONS_INIT(L)`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rwwce_binary_options {
    /// `sizeof(rwwce_binary_options)`: later versions add members at the end. At most 4096.
    pub struct_size: usize,
    /// L, the number of labels of a sample, at least 1.
    pub labels: usize,
    /// `[L]`, at least 0: the cost fn of missing each label; PyTorch's `pos_weight`.
    pub miss_costs: *const f32,
    /// L; 0 for NULL: all ones.
    pub miss_costs_count: usize,
    /// `[L]`, at least 0: the cost fp of a false alarm of each label.
    pub false_alarm_costs: *const f32,
    /// L; 0 for NULL: all ones.
    pub false_alarm_costs_count: usize,
    /// `[N, L]`: the weight s of each logit, which may be negative; PyTorch's `weight`.
    pub sample_weights: *const f32,
    /// N·L; 0 for NULL.
    pub sample_weights_count: usize,
    /// `[N, L]`: upstream gradient with respect to the loss of each logit, not divided by the denominator of the
    /// mean. If absent, `upstream` is used.
    pub row_upstream: *const f32,
    /// N·L; 0 for NULL.
    pub row_upstream_count: usize,
    /// The reduction.
    pub reduction: rwwce_reduction,
    /// The result of a mean whose denominator is 0.
    pub zero_denominator: rwwce_zero_denominator,
    /// Upstream gradient with respect to the reduced loss. 1 changes nothing.
    pub upstream: f32,
    /// The type of the logits. Calls that write over the logits, or read probabilities instead, refuse all but
    /// `RWWCE_LOGIT_F32`.
    pub logit_type: rwwce_logit_type,
    /// The scale of `RWWCE_LOGIT_I8` and `RWWCE_LOGIT_U8`, finite and above 0. Other types ignore it.
    pub logit_scale: f32,
    /// The zero point of `RWWCE_LOGIT_I8` and `RWWCE_LOGIT_U8`, in the range of the type.
    pub logit_zero_point: i32,
    /// Name of the backend; NULL for the best one.
    pub backend: *const c_char,
    /// A finite denominator instead of that of the reduction; NULL for that of the reduction. For a call on a part of
    /// the batch, give the denominator of the whole: see `rwwce_binary_weigh`.
    pub denominator: *const f64,
}

/// Options of class weights from label counts. Start from `RWWCE_CLASS_WEIGHTS_OPTIONS_INIT(scheme)`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rwwce_class_weights_options {
    /// `sizeof(rwwce_class_weights_options)`: later versions add members at the end. At most 4096.
    pub struct_size: usize,
    /// The scheme.
    pub scheme: rwwce_scheme,
    /// The scaling of the weights.
    pub normalisation: rwwce_normalisation,
    /// The weight of classes without samples.
    pub empty_class: rwwce_empty_class,
    /// The finite weight of `RWWCE_EMPTY_CLASS_WEIGHT`.
    pub empty_class_weight: f32,
    /// β in [0, 1) of `RWWCE_SCHEME_EFFECTIVE_NUMBER`.
    pub beta: f64,
}

/// Options structure that begins with its size.
///
/// # Safety
///
/// The type is `repr(C)`, its first member is `struct_size: usize`, and any bytes are a value of it.
unsafe trait SizedStruct: Copy {}
// SAFETY: numbers and pointers after the size.
unsafe impl SizedStruct for rwwce_options {}
// SAFETY: as above.
unsafe impl SizedStruct for rwwce_binary_options {}
// SAFETY: as above.
unsafe impl SizedStruct for rwwce_class_weights_options {}

/// Largest size of an options structure in any version.
const LARGEST_STRUCT: usize = 4096;

/// Reads options of this version, or of a later version with all members unknown here zero.
///
/// # Safety
///
/// As [`Arrays::input`]; the structure is as large as its first member says.
#[inline(always)]
unsafe fn read<T: SizedStruct>(options: *const T) -> Result<T, rwwce_error> {
    // SAFETY: every such structure begins with its size.
    let found = unsafe { value(RWWCE_ARGUMENT_OPTIONS, options.cast::<usize>()) }?;
    let expected = size_of::<T>();
    let wrong = rwwce_error { expected, found, ..rwwce_error::new(RWWCE_ERROR_STRUCT_SIZE, RWWCE_ARGUMENT_OPTIONS) };
    if !(expected..=LARGEST_STRUCT).contains(&found) {
        return Err(wrong);
    }
    for byte in expected..found {
        // SAFETY: within the structure.
        if unsafe { *options.cast::<u8>().add(byte) } != 0 {
            return Err(wrong);
        }
    }
    // SAFETY: as large as the type at least.
    unsafe { value(RWWCE_ARGUMENT_OPTIONS, options) }
}

pub(crate) fn unknown(argument: rwwce_argument, number: u32) -> rwwce_error {
    rwwce_error { found: number as usize, ..rwwce_error::new(RWWCE_ERROR_UNKNOWN_VALUE, argument) }
}

/// `None` for `RWWCE_REDUCTION_DEFAULT`.
pub(crate) fn reduction(number: rwwce_reduction) -> Result<Option<Reduction>, rwwce_error> {
    Ok(Some(match number {
        RWWCE_REDUCTION_DEFAULT => return Ok(None),
        RWWCE_REDUCTION_SUM => Reduction::Sum,
        RWWCE_REDUCTION_MEAN_WEIGHT_SUM => Reduction::Mean(Denominator::WeightSum),
        RWWCE_REDUCTION_MEAN_ROWS => Reduction::Mean(Denominator::Rows),
        RWWCE_REDUCTION_MEAN_SAMPLE_WEIGHT_SUM => Reduction::Mean(Denominator::SampleWeightSum),
        RWWCE_REDUCTION_MEAN_ROWS_TIMES_CLASSES => Reduction::Mean(Denominator::RowsTimesClasses),
        _ => return Err(unknown(RWWCE_ARGUMENT_REDUCTION, number)),
    }))
}

pub(crate) fn zero_denominator(number: rwwce_zero_denominator) -> Result<ZeroDenominator, rwwce_error> {
    Ok(match number {
        RWWCE_ZERO_DENOMINATOR_NAN => ZeroDenominator::NaN,
        RWWCE_ZERO_DENOMINATOR_ZERO => ZeroDenominator::Zero,
        RWWCE_ZERO_DENOMINATOR_ERROR => ZeroDenominator::Error,
        _ => return Err(unknown(RWWCE_ARGUMENT_ZERO_DENOMINATOR, number)),
    })
}

/// The backend of this name; `None` for NULL.
///
/// # Safety
///
/// `name` is NULL or ends with NUL.
pub(crate) unsafe fn backend(name: *const c_char) -> Result<Option<Backend>, rwwce_error> {
    if name.is_null() {
        return Ok(None);
    }
    // SAFETY: bytes are read up to the NUL, or to the first that differs.
    let found = Backend::available().find(|backend| unsafe { same(name, backend.name()) });
    found.map(Some).ok_or(rwwce_error::new(RWWCE_ERROR_UNKNOWN_BACKEND, RWWCE_ARGUMENT_BACKEND))
}

/// Whether the C string `text` equals `other`.
///
/// # Safety
///
/// `text` ends with NUL.
unsafe fn same(text: *const c_char, other: &str) -> bool {
    let mut rest = text.cast::<u8>();
    for &byte in other.as_bytes() {
        // SAFETY: every byte before was equal to one of `other`, which has no NUL.
        if unsafe { *rest } != byte {
            return false;
        }
        // SAFETY: there is a NUL ahead.
        rest = unsafe { rest.add(1) };
    }
    // SAFETY: as above.
    unsafe { *rest == 0 }
}

/// The upstream gradient: one factor per row if given, else `factor`.
///
/// # Safety
///
/// As [`Arrays::input`].
unsafe fn upstream<'a>(
    arrays: &mut Arrays,
    factor: f32,
    rows: *const f32,
    count: usize,
) -> Result<Upstream<'a>, rwwce_error> {
    // SAFETY: as the caller has promised.
    let rows = unsafe { arrays.optional_input(RWWCE_ARGUMENT_UPSTREAM, rows, count) }?;
    Ok(rows.map_or(Upstream::Loss(factor), Upstream::Rows))
}

/// A loss with the logit type and upstream gradient of its options.
pub(crate) struct Loss<'a, L> {
    pub(crate) loss: L,
    pub(crate) logit_type: LogitType,
    pub(crate) upstream: Upstream<'a>,
}

impl rwwce_options {
    /// The loss that these options describe.
    ///
    /// # Safety
    ///
    /// As [`Arrays::input`], for the options and the arrays that they name.
    // Inlined into every call; outlined without an operating system, where memory is small.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) unsafe fn read<'a>(
        options: *const Self,
        arrays: &mut Arrays,
    ) -> Result<Loss<'a, CrossEntropy<'a>>, rwwce_error> {
        // SAFETY: as the caller has promised.
        let it = unsafe { read(options) }?;
        let logit_type = LogitType::new(it.logit_type, it.logit_scale, it.logit_zero_point)?;
        let mut loss = CrossEntropy::new(it.classes)
            .positions(it.positions)
            .label_smoothing(it.label_smoothing)
            .focal(it.focal)
            .z_loss(it.z_loss)
            .temperature(it.temperature)
            .zero_denominator(zero_denominator(it.zero_denominator)?);
        loss = with_threads(loss, it.threads)?;
        if it.row_stride != 0 {
            loss = loss.row_stride(it.row_stride);
        }
        if it.has_ignore_index != 0 {
            loss = loss.ignore_index(it.ignore_index);
        }
        if let Some(reduction) = reduction(it.reduction)? {
            loss = loss.reduction(reduction);
        }
        // SAFETY: as the caller has promised.
        unsafe {
            if let Some(backend) = backend(it.backend)? {
                loss = loss.backend(backend);
            }
            if !it.denominator.is_null() {
                loss = loss.denominator(value(RWWCE_ARGUMENT_DENOMINATOR, it.denominator)?);
            }
            let (weights, count) = (it.class_weights, it.class_weights_count);
            if let Some(weights) = arrays.optional_input(RWWCE_ARGUMENT_CLASS_WEIGHTS, weights, count)? {
                loss = loss.class_weights(weights);
            }
            let (weights, count) = (it.sample_weights, it.sample_weights_count);
            if let Some(weights) = arrays.optional_input(RWWCE_ARGUMENT_SAMPLE_WEIGHTS, weights, count)? {
                loss = loss.sample_weights(weights);
            }
            let (costs, count) = (it.mislabel_costs, it.mislabel_costs_count);
            if let Some(costs) = arrays.optional_input(RWWCE_ARGUMENT_MISLABEL_COSTS, costs, count)? {
                loss = loss.mislabel_costs(costs);
            }
            let (bias, count) = (it.class_bias, it.class_bias_count);
            if let Some(bias) = arrays.optional_input(RWWCE_ARGUMENT_CLASS_BIAS, bias, count)? {
                loss = loss.class_bias(bias);
            }
            let upstream = upstream(arrays, it.upstream, it.row_upstream, it.row_upstream_count)?;
            Ok(Loss { loss, logit_type, upstream })
        }
    }
}

impl rwwce_binary_options {
    /// The loss that these options describe.
    ///
    /// # Safety
    ///
    /// As [`Arrays::input`], for the options and the arrays that they name.
    pub(crate) unsafe fn read<'a>(
        options: *const Self,
        arrays: &mut Arrays,
    ) -> Result<Loss<'a, BinaryCrossEntropy<'a>>, rwwce_error> {
        // SAFETY: as the caller has promised.
        let it = unsafe { read(options) }?;
        let logit_type = LogitType::new(it.logit_type, it.logit_scale, it.logit_zero_point)?;
        let mut loss = BinaryCrossEntropy::new(it.labels).zero_denominator(zero_denominator(it.zero_denominator)?);
        if let Some(reduction) = reduction(it.reduction)? {
            loss = loss.reduction(reduction);
        }
        // SAFETY: as the caller has promised.
        unsafe {
            if let Some(backend) = backend(it.backend)? {
                loss = loss.backend(backend);
            }
            if !it.denominator.is_null() {
                loss = loss.denominator(value(RWWCE_ARGUMENT_DENOMINATOR, it.denominator)?);
            }
            let (costs, count) = (it.miss_costs, it.miss_costs_count);
            if let Some(costs) = arrays.optional_input(RWWCE_ARGUMENT_MISS_COSTS, costs, count)? {
                loss = loss.miss_costs(costs);
            }
            let (costs, count) = (it.false_alarm_costs, it.false_alarm_costs_count);
            if let Some(costs) = arrays.optional_input(RWWCE_ARGUMENT_FALSE_ALARM_COSTS, costs, count)? {
                loss = loss.false_alarm_costs(costs);
            }
            let (weights, count) = (it.sample_weights, it.sample_weights_count);
            if let Some(weights) = arrays.optional_input(RWWCE_ARGUMENT_SAMPLE_WEIGHTS, weights, count)? {
                loss = loss.sample_weights(weights);
            }
            let upstream = upstream(arrays, it.upstream, it.row_upstream, it.row_upstream_count)?;
            Ok(Loss { loss, logit_type, upstream })
        }
    }
}

impl rwwce_class_weights_options {
    /// The class weights that these options describe.
    ///
    /// # Safety
    ///
    /// As [`Arrays::input`].
    pub(crate) unsafe fn read(options: *const Self) -> Result<ClassWeights, rwwce_error> {
        // SAFETY: as the caller has promised.
        let it = unsafe { read(options) }?;
        let scheme = match it.scheme {
            RWWCE_SCHEME_INVERSE_FREQUENCY => Scheme::InverseFrequency,
            RWWCE_SCHEME_BALANCED => Scheme::Balanced,
            RWWCE_SCHEME_EFFECTIVE_NUMBER => Scheme::EffectiveNumber { beta: it.beta },
            RWWCE_SCHEME_INVERSE_SQUARE_ROOT => Scheme::InverseSquareRoot,
            RWWCE_SCHEME_MEDIAN_FREQUENCY => Scheme::MedianFrequency,
            _ => return Err(unknown(RWWCE_ARGUMENT_SCHEME, it.scheme)),
        };
        let normalisation = match it.normalisation {
            RWWCE_NORMALISATION_NONE => Normalisation::None,
            RWWCE_NORMALISATION_SUM => Normalisation::Sum,
            RWWCE_NORMALISATION_MEAN => Normalisation::Mean,
            _ => return Err(unknown(RWWCE_ARGUMENT_NORMALISATION, it.normalisation)),
        };
        let empty_class = match it.empty_class {
            RWWCE_EMPTY_CLASS_ERROR => EmptyClass::Error,
            RWWCE_EMPTY_CLASS_WEIGHT => EmptyClass::Weight(it.empty_class_weight),
            _ => return Err(unknown(RWWCE_ARGUMENT_EMPTY_CLASS, it.empty_class)),
        };
        Ok(ClassWeights::new(scheme).normalisation(normalisation).empty_class(empty_class))
    }
}

/// The integer type of an array of labels.
pub type rwwce_label_type = u32;

/// `uint8_t`
pub const RWWCE_LABEL_U8: rwwce_label_type = 1;
/// `uint16_t`
pub const RWWCE_LABEL_U16: rwwce_label_type = 2;
/// `uint32_t`
pub const RWWCE_LABEL_U32: rwwce_label_type = 3;
/// `int32_t`
pub const RWWCE_LABEL_I32: rwwce_label_type = 4;
/// `int64_t`
pub const RWWCE_LABEL_I64: rwwce_label_type = 5;

/// Labels of any of the types.
pub(crate) enum Labels<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    I32(&'a [i32]),
    I64(&'a [i64]),
}

impl Labels<'_> {
    /// # Safety
    ///
    /// As [`Arrays::input`], for elements of the type that the number names.
    // Inlined as the options are.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) unsafe fn read(
        arrays: &mut Arrays,
        labels: *const core::ffi::c_void,
        count: usize,
        label_type: rwwce_label_type,
    ) -> Result<Self, rwwce_error> {
        let argument = RWWCE_ARGUMENT_LABELS;
        let element = match label_type {
            RWWCE_LABEL_U8 => Layout::new::<u8>(),
            RWWCE_LABEL_U16 => Layout::new::<u16>(),
            RWWCE_LABEL_U32 => Layout::new::<u32>(),
            RWWCE_LABEL_I32 => Layout::new::<i32>(),
            RWWCE_LABEL_I64 => Layout::new::<i64>(),
            _ => return Err(unknown(RWWCE_ARGUMENT_LABEL_TYPE, label_type)),
        };
        let (labels, count) = arrays.input_of(argument, labels, count, element)?;
        // SAFETY: an array of such elements, as in `Arrays::input`.
        unsafe {
            Ok(match label_type {
                RWWCE_LABEL_U8 => Self::U8(slice::from_raw_parts(labels.cast(), count)),
                RWWCE_LABEL_U16 => Self::U16(slice::from_raw_parts(labels.cast(), count)),
                RWWCE_LABEL_U32 => Self::U32(slice::from_raw_parts(labels.cast(), count)),
                RWWCE_LABEL_I32 => Self::I32(slice::from_raw_parts(labels.cast(), count)),
                _ => Self::I64(slice::from_raw_parts(labels.cast(), count)),
            })
        }
    }
}

/// Evaluates `$call` with the labels as a slice of their type.
macro_rules! with_labels {
    ($labels:expr, |$typed:ident| $call:expr) => {
        match $labels {
            Labels::U8($typed) => $call,
            Labels::U16($typed) => $call,
            Labels::U32($typed) => $call,
            Labels::I32($typed) => $call,
            Labels::I64($typed) => $call,
        }
    };
}
pub(crate) use with_labels;

// The size must not change within compatible versions.
const _: () = assert!(size_of::<*const f32>() != 8 || size_of::<rwwce_options>() == 192);

// No padding after the last member: a later version could place a member there without a larger size.
const _: () = {
    assert!(offset_of!(rwwce_options, threads) + size_of::<usize>() == size_of::<rwwce_options>());
    const END: usize = offset_of!(rwwce_binary_options, denominator) + size_of::<*const f64>();
    assert!(END == size_of::<rwwce_binary_options>());
};
