//! Prints the loss of your own arrays.
//!
//! ```sh
//! cargo run --example evaluate -- examples/data/logits.npy examples/data/labels.npy \
//!     --weights 1,2.5,4 --ignore-index -100
//! ```
//!
//! The logits are a `.npy` file of float32 shaped `[N, C]`, the labels one of integers shaped `[N]`,
//! as `numpy.save` writes them. `--help` lists the options. What is wrong with a file or an option is
//! told in one line on standard error, and the exit code is then 2.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use npyz::{DType, Deserialize, NpyFile, NpyHeader, Order, TypeChar, WriterBuilder};
use rwwce::{Argument, Backend, CrossEntropy, Denominator, Reduction, Summary, ZeroDenominator};

const USAGE: &str = "\
Usage: evaluate LOGITS.npy LABELS.npy [OPTIONS]

Prints the weighted softmax cross-entropy of float32 logits [N, C] and integer labels [N]
(uint8, uint16, uint32, int32 or int64).

Options:
  --weights W.npy|1,2.5,3         weight of each class: a float32 array [C], or a list
  --reduction none|sum|mean       one loss per row, their sum, or their mean (default: mean)
  --denominator weight-sum|rows   what the mean divides by (default: weight-sum)
  --zero-denominator nan|zero|error
                                  the mean where the denominator is 0 (default: nan)
  --ignore-index I                leave out the rows that have the label I
  --probabilities EPS             the first array holds probabilities p: the loss is -ln(p + EPS)
  --backend NAME                  compute with this instruction set (default: the fastest here)
  --output LOSSES.npy             also write the losses of --reduction none, as a float32 array [N]
  --help                          print this text
";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let Err(error) = run() else {
        return ExitCode::SUCCESS;
    };
    // A path or a value in the message can hold any character; the message stays one line even so.
    let line = error.to_string().replace(char::is_control, "\u{fffd}");
    // Where standard error is closed, the exit code still tells.
    let _ = writeln!(io::stderr(), "error: {line}");
    ExitCode::from(2)
}

fn run() -> Result<()> {
    let Some(options) = Options::parse(lexopt::Parser::from_env())? else {
        return print(|out| out.write_all(USAGE.as_bytes()));
    };
    let Matrix { rows, classes, values } = read_scores(&options.scores)?;
    let labels = Labels::read(&options.labels)?;
    if labels.len() != rows {
        return Err(format!(
            "{}: expected {rows} labels, one for each row of {}, found {}",
            options.labels.display(),
            options.scores.display(),
            labels.len(),
        )
        .into());
    }
    let weights = options.weights.as_ref().map(|source| source.read()).transpose()?;
    if let (Some(weights), Some(source)) = (&weights, &options.weights)
        && weights.len() != classes
    {
        return Err(format!(
            "{}: expected {classes} weights, one for each class of {}, found {}",
            source.name(),
            options.scores.display(),
            weights.len(),
        )
        .into());
    }

    let mut loss = CrossEntropy::new(classes).zero_denominator(options.zero_denominator).backend(options.backend);
    if let Some(weights) = &weights {
        loss = loss.class_weights(weights);
    }
    if let Some(label) = options.ignore_index {
        loss = loss.ignore_index(label);
    }
    let Some(reduction) = options.reduction else {
        let mut losses = vec![0.0; rows];
        labels
            .row_losses(&loss, &values, options.probabilities, &mut losses)
            .map_err(|error| options.explain(error))?;
        if let Some(path) = &options.output {
            write_losses(path, &losses).map_err(at(path))?;
        }
        return print(|out| losses.iter().try_for_each(|loss| writeln!(out, "{loss:?}")));
    };
    let summary = labels
        .loss(&loss.reduction(reduction), &values, options.probabilities)
        .map_err(|error| options.explain(error))?;
    print(|out| {
        writeln!(out, "backend:         {}", options.backend.name())?;
        writeln!(out, "rows:            {rows}")?;
        writeln!(out, "classes:         {classes}")?;
        writeln!(out, "rows that count: {}", summary.rows)?;
        writeln!(out, "non-finite rows: {}", summary.non_finite)?;
        // Debug prints the fewest digits that read back as the same number, and, unlike Display,
        // turns to an exponent where the number is very small or very large.
        writeln!(out, "denominator:     {:?}", summary.denominator)?;
        writeln!(out, "loss:            {:?}", summary.loss)
    })
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no error.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}").into()),
        _ => Ok(()),
    }
}

/// Puts the name of the file in front of an error.
fn at<E: Display>(path: &Path) -> impl Fn(E) -> String {
    move |error| format!("{}: {error}", path.display())
}

// ---- The command line

struct Options {
    scores: PathBuf,
    labels: PathBuf,
    weights: Option<Weights>,
    /// `None` leaves one loss for each row.
    reduction: Option<Reduction>,
    zero_denominator: ZeroDenominator,
    ignore_index: Option<i64>,
    backend: Backend,
    probabilities: Option<f32>,
    output: Option<PathBuf>,
}

/// The words that `--reduction` takes.
#[derive(Clone, Copy, PartialEq)]
enum Reduce {
    None,
    Sum,
    Mean,
}

impl Options {
    /// Reads the command line; `None` is a call for help.
    fn parse(mut arguments: lexopt::Parser) -> Result<Option<Self>> {
        use lexopt::prelude::*;

        let mut paths = Vec::new();
        let mut weights = None;
        let mut reduction = Reduce::Mean;
        let mut denominator = None;
        let mut zero_denominator = None;
        let mut ignore_index = None;
        let mut backend = None;
        let mut probabilities = None;
        let mut output = None;
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("help") | Short('h') => return Ok(None),
                Long("weights") => weights = Some(Weights::parse(arguments.value()?)?),
                Long("reduction") => {
                    let choices = [("none", Reduce::None), ("sum", Reduce::Sum), ("mean", Reduce::Mean)];
                    reduction = choose("--reduction", arguments.value()?, &choices)?;
                }
                Long("denominator") => {
                    let choices = [("weight-sum", Denominator::WeightSum), ("rows", Denominator::Rows)];
                    denominator = Some(choose("--denominator", arguments.value()?, &choices)?);
                }
                Long("zero-denominator") => {
                    let choices = [
                        ("nan", ZeroDenominator::NaN),
                        ("zero", ZeroDenominator::Zero),
                        ("error", ZeroDenominator::Error),
                    ];
                    let choice = choose("--zero-denominator", arguments.value()?, &choices)?;
                    zero_denominator = Some(choice);
                }
                Long("ignore-index") => {
                    let value = arguments.value()?;
                    ignore_index = Some(number("--ignore-index", "an integer", value)?);
                }
                Long("probabilities") => {
                    let value = arguments.value()?;
                    probabilities = Some(number("--probabilities", "a number", value)?);
                }
                Long("backend") => {
                    let choices: Vec<_> = Backend::available().map(|b| (b.name(), b)).collect();
                    backend = Some(choose("--backend", arguments.value()?, &choices)?);
                }
                Long("output") => output = Some(PathBuf::from(arguments.value()?)),
                Value(path) => paths.push(PathBuf::from(path)),
                _ => return Err(argument.unexpected().into()),
            }
        }

        // An option that could have no effect shows that something else was meant.
        let without_effect = [
            ("--denominator", denominator.is_some(), Reduce::Mean, "mean"),
            ("--zero-denominator", zero_denominator.is_some(), Reduce::Mean, "mean"),
            ("--output", output.is_some(), Reduce::None, "none"),
        ];
        for (option, given, needed, name) in without_effect {
            if given && reduction != needed {
                return Err(format!("{option}: expected together with --reduction {name}").into());
            }
        }
        let found = paths.len();
        let Ok([scores, labels]) = <[PathBuf; 2]>::try_from(paths) else {
            return Err(format!("expected two files, LOGITS.npy and LABELS.npy, found {found}; see --help").into());
        };
        Ok(Some(Self {
            scores,
            labels,
            weights,
            reduction: match reduction {
                Reduce::None => None,
                Reduce::Sum => Some(Reduction::Sum),
                Reduce::Mean => Some(Reduction::Mean(denominator.unwrap_or(Denominator::WeightSum))),
            },
            zero_denominator: zero_denominator.unwrap_or(ZeroDenominator::NaN),
            ignore_index,
            backend: backend.unwrap_or_else(Backend::active),
            probabilities,
            output,
        }))
    }

    /// Says which file or option the library's error is about.
    fn explain(&self, error: rwwce::Error) -> String {
        use rwwce::Error::{LabelOutOfRange, NoClasses, NotFinite, OutOfRange};

        match (error, &self.weights) {
            (LabelOutOfRange { label: ..0, .. }, _) if self.ignore_index.is_none() => {
                format!("{}; see --ignore-index", at(&self.labels)(error))
            }
            (LabelOutOfRange { .. }, _) => at(&self.labels)(error),
            (NotFinite { argument: Argument::ClassWeights, .. }, Some(weights)) => {
                format!("{}: {error}", weights.name())
            }
            (NotFinite { argument: Argument::Eps, .. } | OutOfRange { argument: Argument::Eps, .. }, _) => {
                format!("--probabilities: {error}")
            }
            (NoClasses, _) => at(&self.scores)(error),
            _ => error.to_string(),
        }
    }
}

/// The value of an option that takes one of a few words.
fn choose<T: Copy>(option: &str, value: OsString, choices: &[(&str, T)]) -> Result<T> {
    match choices.iter().find(|(name, _)| *name == value) {
        Some(&(_, choice)) => Ok(choice),
        None => {
            let names: Vec<_> = choices.iter().map(|&(name, _)| name).collect();
            let (names, value) = (names.join(", "), value.display());
            Err(format!("{option}: expected one of {names}, found {value}").into())
        }
    }
}

/// The value of an option that takes a number.
fn number<T: std::str::FromStr>(option: &str, expected: &str, value: OsString) -> Result<T> {
    match value.to_str().map(str::parse) {
        Some(Ok(number)) => Ok(number),
        _ => Err(format!("{option}: expected {expected}, found {}", value.display()).into()),
    }
}

/// Where the class weights come from.
enum Weights {
    File(PathBuf),
    List(Vec<f32>),
}

impl Weights {
    /// Takes what ends in `.npy` for a file, and all else for a list of numbers.
    fn parse(value: OsString) -> Result<Self> {
        let path = Path::new(&value);
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
            return Ok(Self::File(path.to_path_buf()));
        }
        let number = |text: &str| text.trim().parse().ok();
        match value.to_str().and_then(|text| text.split(',').map(number).collect()) {
            Some(list) => Ok(Self::List(list)),
            None => Err(format!(
                "--weights: expected a .npy file or numbers with commas between, found {}",
                value.display()
            )
            .into()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::List(_) => "--weights".to_owned(),
        }
    }

    fn read(&self) -> Result<Vec<f32>> {
        match self {
            Self::File(path) => {
                let array = Array::open(path)?;
                array.expect_f32()?;
                let [_] = array.shape("[C]")?;
                array.values()
            }
            Self::List(list) => Ok(list.clone()),
        }
    }
}

// ---- The arrays

struct Matrix {
    rows: usize,
    classes: usize,
    /// The rows one after the other.
    values: Vec<f32>,
}

fn read_scores(path: &Path) -> Result<Matrix> {
    let array = Array::open(path)?;
    array.expect_f32()?;
    let [rows, classes] = array.shape("[N, C]")?;
    let order = array.header.order();
    let mut values = array.values::<f32>()?;
    if order == Order::Fortran {
        // The columns are one after the other, as `numpy.save` leaves a transposed array.
        values = (0..values.len()).map(|i| values[(i % classes) * rows + i / classes]).collect();
    }
    Ok(Matrix { rows, classes, values })
}

/// Labels of each integer type that the library takes as it is.
enum Labels {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// Evaluates `$call` with the vector of `$labels`, whichever its type, as `$vector`.
macro_rules! with_labels {
    ($labels:expr, $vector:ident => $call:expr) => {
        match $labels {
            Labels::U8($vector) => $call,
            Labels::U16($vector) => $call,
            Labels::U32($vector) => $call,
            Labels::I32($vector) => $call,
            Labels::I64($vector) => $call,
        }
    };
}

impl Labels {
    fn read(path: &Path) -> Result<Self> {
        let array = Array::open(path)?;
        let [_] = array.shape("[N]")?;
        match array.scalar() {
            Some((TypeChar::Uint, 1)) => array.values().map(Self::U8),
            Some((TypeChar::Uint, 2)) => array.values().map(Self::U16),
            Some((TypeChar::Uint, 4)) => array.values().map(Self::U32),
            Some((TypeChar::Int, 4)) => array.values().map(Self::I32),
            Some((TypeChar::Int, 8)) => array.values().map(Self::I64),
            _ => Err(array.wrong_dtype("uint8, uint16, uint32, int32 or int64")),
        }
    }

    fn len(&self) -> usize {
        with_labels!(self, labels => labels.len())
    }

    fn loss(
        &self,
        loss: &CrossEntropy<'_>,
        scores: &[f32],
        probabilities: Option<f32>,
    ) -> std::result::Result<Summary, rwwce::Error> {
        with_labels!(self, labels => match probabilities {
            None => loss.loss(scores, labels),
            Some(eps) => loss.loss_from_probabilities(scores, labels, eps),
        })
    }

    fn row_losses(
        &self,
        loss: &CrossEntropy<'_>,
        scores: &[f32],
        probabilities: Option<f32>,
        losses: &mut [f32],
    ) -> std::result::Result<Summary, rwwce::Error> {
        with_labels!(self, labels => match probabilities {
            None => loss.row_losses(scores, labels, losses),
            Some(eps) => loss.row_losses_from_probabilities(scores, labels, eps, losses),
        })
    }
}

// ---- The files

/// A `.npy` file whose header has been read.
struct Array<'a> {
    path: &'a Path,
    header: NpyHeader,
    /// Stands at the first value.
    reader: BufReader<File>,
    /// Bytes from the first value to the end of the file.
    bytes: u64,
}

impl<'a> Array<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        // The length of a pipe or device is not known beforehand, and opening one may wait for ever.
        let metadata = fs::metadata(path).map_err(at(path))?;
        if !metadata.is_file() {
            let found = if metadata.is_dir() { "a directory" } else { "something else" };
            return Err(at(path)(format!("expected a .npy file, found {found}")).into());
        }
        let mut reader = BufReader::new(File::open(path).map_err(at(path))?);
        let bytes = header_bytes(&mut reader).map_err(at(path))?;
        let header = NpyHeader::from_reader(&bytes[..]).map_err(|error| {
            // A syntax error comes with a drawing of its place: only its first line is of use here.
            let error = error.to_string();
            at(path)(format!("bad .npy header: {}", error.lines().next().unwrap_or_default()))
        })?;
        let bytes = metadata.len().saturating_sub(bytes.len() as u64);
        Ok(Self { path, header, reader, bytes })
    }

    /// The kind and size in bytes of the values, if they are plain numbers.
    fn scalar(&self) -> Option<(TypeChar, u64)> {
        match self.header.dtype() {
            DType::Plain(dtype) => Some((dtype.type_char(), dtype.size_field())),
            _ => None,
        }
    }

    fn expect_f32(&self) -> Result<()> {
        match self.scalar() {
            Some((TypeChar::Float, 4)) => Ok(()),
            _ => Err(self.wrong_dtype("float32")),
        }
    }

    fn wrong_dtype(&self, expected: &str) -> Box<dyn Error> {
        let found = match self.scalar() {
            Some((TypeChar::Bool, _)) => "bool".to_owned(),
            Some((TypeChar::Int, size)) => format!("int{}", 8 * size),
            Some((TypeChar::Uint, size)) => format!("uint{}", 8 * size),
            Some((TypeChar::Float, size)) => format!("float{}", 8 * size),
            Some((TypeChar::Complex, size)) => format!("complex{}", 8 * size),
            _ => self.header.dtype().descr(),
        };
        at(self.path)(format!("expected dtype {expected}, found {found}")).into()
    }

    /// The shape, if it has `D` axes.
    fn shape<const D: usize>(&self, expected: &str) -> Result<[usize; D]> {
        let shape = self.header.shape();
        // An axis that `usize` cannot hold counts as a wrong shape.
        let axes: Vec<_> = shape.iter().map_while(|&axis| usize::try_from(axis).ok()).collect();
        match <[usize; D]>::try_from(axes) {
            Ok(axes) if shape.len() == D => Ok(axes),
            _ => Err(at(self.path)(format!("expected an array shaped {expected}, found {shape:?}")).into()),
        }
    }

    /// The values, in the order of the file.
    fn values<T: Deserialize>(self) -> Result<Vec<T>> {
        let Self { path, header, reader, bytes } = self;
        // The shape is only what the header claims. Memory is set aside once the file is as long.
        let size = size_of::<T>() as u64;
        let expected = header.shape().iter().try_fold(size, |bytes, &axis| bytes.checked_mul(axis));
        if expected != Some(bytes) {
            let expected = expected.map_or("more".to_owned(), |bytes| bytes.to_string());
            let shape = header.shape();
            return Err(at(path)(format!(
                "expected {expected} bytes of values for the shape {shape:?}, found {bytes}"
            ))
            .into());
        }
        let mut values = Vec::with_capacity(usize::try_from(bytes / size).map_err(at(path))?);
        for value in NpyFile::with_header(header, reader).data().map_err(at(path))? {
            values.push(value.map_err(at(path))?);
        }
        Ok(values)
    }
}

/// Reads a `.npy` header, and checks that npyz can be given it.
fn header_bytes(reader: &mut impl Read) -> Result<Vec<u8>> {
    /// `numpy.load` refuses longer headers too. The header of an array of numbers takes 128 bytes.
    const LONGEST: usize = 10_000;

    let mut bytes = Vec::new();
    reader.take(10).read_to_end(&mut bytes)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err(r"expected a .npy file, which starts with \x93NUMPY, found another file".into());
    }
    // The length of the text that follows is a u16 in version 1, and a u32 later.
    let length = match bytes[6..] {
        [1, 0, a, b] => usize::from(u16::from_le_bytes([a, b])),
        [2 | 3, 0, a, b] => {
            reader.take(2).read_to_end(&mut bytes)?;
            match bytes[10..] {
                [c, d] => usize::try_from(u32::from_le_bytes([a, b, c, d]))?,
                _ => return Err("the file ends inside the .npy header".into()),
            }
        }
        [major, minor, _, _] => {
            return Err(format!("expected .npy version 1.0, 2.0 or 3.0, found version {major}.{minor}").into());
        }
        _ => return Err("the file ends inside the .npy header".into()),
    };
    if length > LONGEST {
        return Err(format!("expected a .npy header of at most {LONGEST} bytes, found one of {length}").into());
    }
    let start = bytes.len();
    reader.take(length as u64).read_to_end(&mut bytes)?;
    let text = &bytes[start..];
    if text.len() < length {
        return Err("the file ends inside the .npy header".into());
    }
    check_header(text).map_err(|error| format!("bad .npy header: {error}"))?;
    Ok(bytes)
}

/// Checks that the text of a header is one that npyz reads without harm.
///
/// npyz takes any Python literal and multiplies the numbers of the shape unchecked: brackets within
/// brackets can make it run for years or overflow the stack, and large numbers overflow a `u64`.
fn check_header(text: &[u8]) -> Result<()> {
    /// A dictionary, a list of fields, a field, and its shape. An array of numbers needs two.
    const DEEPEST: usize = 4;

    let mut depth = 0_usize;
    let mut product = 1_u64;
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = match first {
            quote @ (b'\'' | b'"') => {
                let end = tail.iter().position(|byte| byte == quote).ok_or("a string has no end")?;
                // A backslash could stand before a quote, and move the end of the string.
                if tail[..end].contains(&b'\\') {
                    return Err("found a backslash in a string".into());
                }
                &tail[end + 1..]
            }
            b'{' | b'(' | b'[' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(format!("found more than {DEEPEST} nested brackets").into());
                }
                tail
            }
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                tail
            }
            b'0'..=b'9' => {
                let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
                let (digits, tail) = rest.split_at(rest.iter().take_while(is_part).count());
                let number: u64 = std::str::from_utf8(digits)?
                    .parse()
                    .map_err(|_| format!("expected an integer below 2^64, found {}", digits.escape_ascii()))?;
                // A zero makes the whole product zero, but not that of the axes beside it.
                product =
                    product.checked_mul(number.max(1)).ok_or("the shape has more elements than memory can address")?;
                tail
            }
            b'a'..=b'z' | b'A'..=b'Z' | b',' | b':' | b' ' | b'\t' | b'\n' => tail,
            _ => return Err(format!("unexpected byte {}", first.escape_ascii()).into()),
        };
    }
    Ok(())
}

fn write_losses(path: &Path, losses: &[f32]) -> io::Result<()> {
    let mut array = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&[losses.len() as u64])
        .writer(BufWriter::new(File::create(path)?))
        .begin_nd()?;
    array.extend(losses)?;
    array.finish()
}
