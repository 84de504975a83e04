//! Arrays from `.npy` files, members of `.npz` files, and lists on the command line.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use miniz_oxide::inflate::decompress_to_vec_with_limit;
use rawzip::{CompressionMethod, ZipArchive, crc32};

use super::header::Header;
use crate::Result;
use crate::output::at;

/// Source of an array: a file, or a member of an archive.
#[derive(Clone)]
pub(super) struct Source {
    path: PathBuf,
    /// Name of the array in an `.npz` file.
    member: Option<String>,
}

impl Source {
    /// A file, or `FILE.npz:NAME`.
    fn parse(text: &OsString) -> Self {
        let whole = Self { path: PathBuf::from(text), member: None };
        let parts = text.to_str().filter(|_| !whole.path.exists()).and_then(|text| text.rsplit_once(".npz:"));
        parts.map_or(whole, |(stem, member)| Self {
            path: PathBuf::from(format!("{stem}.npz")),
            member: Some(member.to_owned()),
        })
    }

    /// Logits and labels, which may be members of one file.
    pub(super) fn pair(logits: Option<&OsString>, labels: Option<&OsString>) -> Result<(Self, Self)> {
        let logits = Self::parse(logits.ok_or("expected a file")?);
        if let Some(labels) = labels {
            return Ok((logits, Self::parse(labels)));
        }
        let bytes = read_file(&logits.path)?;
        if logits.member.is_some() || !is_zip(&bytes) {
            let name = logits.name();
            return Err(format!("expected two files, LOGITS and LABELS, or one .npz file, found {name} alone"));
        }
        let names = member_names(&bytes).map_err(at(&logits.path))?;
        // `numpy.savez` names positional arrays arr_0 and arr_1.
        let pairs = [["logits", "labels"], ["arr_0", "arr_1"]];
        let has = |pair: &&[&str; 2]| pair.iter().all(|name| names.iter().any(|found| found == name));
        let pair = pairs.iter().find(has).ok_or_else(|| {
            let (path, names) = (logits.path.display(), names.join(", "));
            format!("{path}: expected arrays named logits and labels, found {names}; see FILE.npz:NAME in --help")
        })?;
        let [logits, labels] = pair.map(|name| Self { path: logits.path.clone(), member: Some(name.to_owned()) });
        Ok((logits, labels))
    }

    pub(super) fn name(&self) -> String {
        let path = self.path.display();
        self.member.as_ref().map_or_else(|| path.to_string(), |member| format!("{path}:{member}"))
    }

    pub(super) fn read(&self) -> Result<Array> {
        let bytes = read_file(&self.path)?;
        let named = |error: String| format!("{}: {error}", self.name());
        let bytes = if is_zip(&bytes) {
            unpack(&bytes, self.member.as_deref()).map_err(named)?
        } else if self.member.is_some() {
            return Err(named("expected a .npz file, found another file".into()));
        } else {
            bytes
        };
        Array::parse(self.name(), &bytes).map_err(named)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    // Opening a pipe or a device may block for ever.
    let metadata = fs::metadata(path).map_err(at(path))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a directory" } else { "something else" };
        return Err(at(path)(format!("expected a .npy or .npz file, found {found}")));
    }
    fs::read(path).map_err(at(path))
}

fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// The names of the arrays in an `.npz` file, without the suffix `.npy`.
fn member_names(bytes: &[u8]) -> Result<Vec<String>> {
    let bad = |error: rawzip::Error| format!("bad .npz file: {error}");
    let archive = ZipArchive::from_slice(bytes).map_err(bad)?;
    let (mut entries, mut names) = (archive.entries(), Vec::new());
    while let Some(entry) = entries.next_entry().map_err(bad)? {
        names.push(member_name(entry.file_path().as_ref()));
    }
    Ok(names)
}

fn member_name(path: &[u8]) -> String {
    let name = String::from_utf8_lossy(path);
    name.strip_suffix(".npy").unwrap_or(&name).to_owned()
}

/// The uncompressed `.npy` file in an `.npz` file: the one of this name, or the only one.
fn unpack(bytes: &[u8], wanted: Option<&str>) -> Result<Vec<u8>> {
    let bad = |error: rawzip::Error| format!("bad .npz file: {error}");
    let names = member_names(bytes)?;
    let listed = || names.join(", ");
    let wanted = match (wanted, &names[..]) {
        (Some(wanted), _) => wanted,
        (None, [name]) => name,
        (None, []) => return Err("expected an array, found an .npz file without one".into()),
        (None, _) => return Err(format!("expected FILE.npz:NAME, since the file has the arrays {}", listed())),
    };
    let archive = ZipArchive::from_slice(bytes).map_err(bad)?;
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().map_err(bad)? {
        if member_name(entry.file_path().as_ref()) != wanted {
            continue;
        }
        let data = archive.get_entry(entry.wayfinder()).map_err(bad)?;
        let size = usize::try_from(entry.uncompressed_size_hint()).map_err(|error| error.to_string())?;
        let unpacked = match entry.compression_method() {
            CompressionMethod::STORE => data.data().to_vec(),
            // At most the uncompressed size in the archive's directory.
            CompressionMethod::DEFLATE => decompress_to_vec_with_limit(data.data(), size)
                .map_err(|_| "bad .npz file: its compressed data are damaged")?,
            _ => return Err("bad .npz file: expected stored or deflated data".into()),
        };
        if unpacked.len() != size || crc32(&unpacked) != entry.crc32() {
            return Err("bad .npz file: its data do not match their checksum".into());
        }
        return Ok(unpacked);
    }
    Err(format!("expected one of the arrays {}", listed()))
}

/// An array of booleans, integers or floats.
pub(super) struct Array {
    name: String,
    kind: Kind,
    shape: Vec<usize>,
    /// In C order, each element little-endian.
    elements: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Bool,
    Int,
    Uint,
    Float,
}

#[derive(Clone, Copy)]
struct Kind {
    kind: Type,
    /// Size of an element in bytes.
    size: usize,
}

impl Kind {
    /// Type of a descriptor such as `<f4`, and whether it is big-endian.
    fn parse(descr: &str) -> Option<(Self, bool)> {
        let unordered = descr.trim_start_matches(['<', '>', '=', '|']);
        let is_big_endian = descr.starts_with('>') || cfg!(target_endian = "big") && !descr.starts_with('<');
        let (kind, size) = (unordered.get(..1)?, unordered.get(1..)?.parse().ok()?);
        let (kind, sizes): (_, &[usize]) = match kind {
            "b" => (Type::Bool, &[1]),
            "i" => (Type::Int, &[1, 2, 4, 8]),
            "u" => (Type::Uint, &[1, 2, 4, 8]),
            "f" => (Type::Float, &[2, 4, 8]),
            _ => return None,
        };
        sizes.contains(&size).then_some((Self { kind, size }, is_big_endian))
    }

    fn name(self) -> String {
        let bits = 8 * self.size;
        match self.kind {
            Type::Bool => "bool".into(),
            Type::Int => format!("int{bits}"),
            Type::Uint => format!("uint{bits}"),
            Type::Float => format!("float{bits}"),
        }
    }
}

impl Array {
    fn parse(name: String, bytes: &[u8]) -> Result<Self> {
        let (header, data) = Header::parse(bytes)?;
        let shape = header.shape;
        let (kind, is_big_endian) = Kind::parse(&header.descr)
            .ok_or_else(|| format!("expected a dtype of numbers, found {:?}", header.descr))?;
        let expected = shape.iter().try_fold(kind.size, |bytes, &axis| bytes.checked_mul(axis));
        if expected != Some(data.len()) {
            let expected = expected.map_or("more".to_owned(), |bytes| bytes.to_string());
            let found = data.len();
            return Err(format!("expected {expected} bytes of values for the shape {shape:?}, found {found}"));
        }
        let mut elements = data.to_vec();
        if is_big_endian {
            elements.chunks_exact_mut(kind.size).for_each(<[u8]>::reverse);
        }
        if let ([rows, columns], true) = (&shape[..], header.fortran_order) {
            // Column-major, as `numpy.save` writes a transposed array; transposed to row-major.
            let places = (0..rows * columns).map(|i| (i % columns) * rows + i / columns);
            elements = places.flat_map(|place| &elements[place * kind.size..][..kind.size]).copied().collect();
        }
        Ok(Self { name, kind, shape, elements })
    }

    /// Result of `read` for the shape; an error that names the `expected` shape if that is None.
    pub(super) fn shape<T>(&self, expected: &str, read: impl FnOnce(&[usize]) -> Option<T>) -> Result<T> {
        let (name, shape) = (&self.name, &self.shape);
        read(shape).ok_or_else(|| format!("{name}: expected an array shaped {expected}, found {shape:?}"))
    }

    /// The elements as f32. If some are rounded, adds a text with their number to `rounded`.
    pub(super) fn numbers(&self, rounded: &mut Vec<String>) -> Result<Vec<f32>> {
        let mut inexact = 0;
        let mut numbers = Vec::with_capacity(self.elements.len() / self.kind.size);
        for bytes in self.elements.chunks_exact(self.kind.size) {
            let exact = match (self.kind.kind, self.kind.size) {
                (Type::Float, 2) => f16(bytes),
                (Type::Float, 4) => f32::from_bits(self.bits(bytes) as u32).into(),
                (Type::Float, _) => f64::from_bits(self.bits(bytes)),
                // The rounding of 64-bit integers to f64 is far below the precision of f32.
                (Type::Int, _) => self.integer(bytes) as f64,
                _ => self.bits(bytes) as f64,
            };
            let number = exact as f32;
            if number.is_infinite() && exact.is_finite() {
                return Err(format!("{}: the number {exact:?} is beyond the range of float32", self.name));
            }
            inexact += usize::from(f64::from(number) != exact && !exact.is_nan());
            numbers.push(number);
        }
        if inexact > 0 {
            let (name, kind) = (&self.name, self.kind.name());
            rounded.push(format!("{inexact} of {} numbers of {name} ({kind})", numbers.len()));
        }
        Ok(numbers)
    }

    /// The elements as i64; an error for floats and for integers out of range.
    pub(super) fn integers(&self) -> Result<Vec<i64>> {
        let elements = self.elements.chunks_exact(self.kind.size);
        match self.kind.kind {
            Type::Float => {
                let (name, kind) = (&self.name, self.kind.name());
                Err(format!("{name}: expected labels of an integer type or bool, found {kind}"))
            }
            Type::Int => Ok(elements.map(|bytes| self.integer(bytes)).collect()),
            _ => {
                let label = |bytes| {
                    let bits = self.bits(bytes);
                    i64::try_from(bits).map_err(|_| format!("{}: the label {bits} is too large", self.name))
                };
                elements.map(label).collect()
            }
        }
    }

    fn bits(&self, bytes: &[u8]) -> u64 {
        bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte))
    }

    fn integer(&self, bytes: &[u8]) -> i64 {
        let above = 64 - 8 * self.kind.size as u32;
        (self.bits(bytes) << above) as i64 >> above
    }
}

/// Half precision (IEEE 754 binary16) to f64, exactly.
fn f16(bytes: &[u8]) -> f64 {
    let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 0 { size } else { -size }
}

/// Value of an option that takes numbers: a file, or a list.
pub(super) enum Numbers {
    File(Source),
    /// Rows of equal length, given to the option of this name.
    List {
        option: &'static str,
        rows: Vec<Vec<f32>>,
    },
}

impl Numbers {
    /// A text ending in `.npy` or containing `.npz` is a file, any other a list with `,` in rows and `;` between them.
    pub(super) fn parse(option: &'static str, text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        if lower.ends_with(".npy") || lower.contains(".npz") {
            return Ok(Self::File(Source::parse(&text.into())));
        }
        let row = |row: &str| row.split(',').map(|number| number.trim().parse().ok()).collect();
        let rows: Option<Vec<Vec<f32>>> = text.trim_end_matches(';').split(';').map(row).collect();
        match rows {
            Some(rows) if rows.iter().all(|row| row.len() == rows[0].len()) => Ok(Self::List { option, rows }),
            _ => Err(format!("--{option}: expected a .npy or .npz file, or numbers with commas between, found {text}")),
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::File(source) => source.name(),
            Self::List { option, .. } => format!("--{option}"),
        }
    }

    /// Shape and elements in row-major order; a list of a single row is one-dimensional.
    pub(super) fn read(&self, rounded: &mut Vec<String>) -> Result<(Vec<usize>, Vec<f32>)> {
        match self {
            Self::File(source) => {
                let array = source.read()?;
                Ok((array.shape.clone(), array.numbers(rounded)?))
            }
            Self::List { rows, .. } => {
                let shape = if rows.len() == 1 { vec![rows[0].len()] } else { vec![rows.len(), rows[0].len()] };
                Ok((shape, rows.concat()))
            }
        }
    }
}
