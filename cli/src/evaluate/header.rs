//! The header of an `.npy` file: `{'descr': '<f4', 'fortran_order': False, 'shape': (8, 3), }`, a Python dictionary.

use std::str;

use crate::Result;

/// `numpy.load` refuses longer headers too. The header of an array of numbers takes 128 bytes.
const LONGEST: usize = 10_000;

pub(super) struct Header {
    /// Type descriptor, such as `<f4`; `[…]` for structured types.
    pub(super) descr: String,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
}

impl Header {
    /// The header, and the data after it.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else {
            return Err(r"expected a .npy file, which starts with \x93NUMPY, found another file".into());
        };
        // The length of the dictionary is a u16 in version 1, and a u32 in later ones.
        let (length, rest) = match *rest {
            [1, 0, a, b, ref rest @ ..] => (usize::from(u16::from_le_bytes([a, b])), rest),
            [2 | 3, 0, a, b, c, d, ref rest @ ..] => (u32::from_le_bytes([a, b, c, d]) as usize, rest),
            [1..=3, 0, ..] | [] | [_] => return Err("the file ends inside the .npy header".into()),
            [major, minor, ..] => {
                return Err(format!("expected .npy version 1.0, 2.0 or 3.0, found version {major}.{minor}"));
            }
        };
        if length > LONGEST {
            return Err(format!("expected a .npy header of at most {LONGEST} bytes, found one of {length}"));
        }
        let (text, data) = rest.split_at_checked(length).ok_or("the file ends inside the .npy header")?;
        let text = str::from_utf8(text).map_err(|_| "bad .npy header: it is not UTF-8")?;
        let header = Text(text).dictionary().map_err(|error| format!("bad .npy header: {error}"))?;
        Ok((header, data))
    }
}

/// Parser of the dictionary: the rest of its text.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn dictionary(mut self) -> Result<Header> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.skip('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" => fortran_order = Some(self.truth()?),
                "shape" => shape = Some(self.shape()?),
                _ => return Err(format!("unexpected key {key:?}")),
            }
            if !self.skip(',') && !self.0.trim_start().starts_with('}') {
                return Err("expected a comma or }".into());
            }
        }
        if !self.0.trim().is_empty() {
            return Err("something follows its dictionary".into());
        }
        let missing = |key: &str| format!("it has no {key:?}");
        Ok(Header {
            descr: descr.ok_or_else(|| missing("descr"))?,
            fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }

    /// Skips whitespace and this character, and returns true, if it comes next.
    fn skip(&mut self, character: char) -> bool {
        let after = self.0.trim_start().strip_prefix(character);
        self.0 = after.unwrap_or(self.0);
        after.is_some()
    }

    fn expect(&mut self, character: char) -> Result<()> {
        if self.skip(character) { Ok(()) } else { Err(format!("expected {character}")) }
    }

    fn string(&mut self) -> Result<&'a str> {
        let quote = if self.skip('\'') { '\'' } else { self.expect('"').map(|()| '"')? };
        let (string, rest) = self.0.split_once(quote).ok_or("a string has no end")?;
        self.0 = rest;
        Ok(string)
    }

    fn descr(&mut self) -> Result<String> {
        if self.skip('[') { Ok(self.up_to(']').map(|_| "[…]".into())?) } else { self.string().map(str::to_owned) }
    }

    /// Skips to the last bracket before the next key. Structured types are refused later and need no parsing.
    fn up_to(&mut self, bracket: char) -> Result<&'a str> {
        let end = self.0.find("'fortran_order'").unwrap_or(self.0.len());
        let end = self.0[..end].rfind(bracket).ok_or("a bracket has no end")?;
        let (inside, rest) = self.0.split_at(end + 1);
        self.0 = rest;
        Ok(inside)
    }

    fn truth(&mut self) -> Result<bool> {
        let text = self.0.trim_start();
        for (word, truth) in [("True", true), ("False", false)] {
            if let Some(rest) = text.strip_prefix(word) {
                self.0 = rest;
                return Ok(truth);
            }
        }
        Err("expected True or False".into())
    }

    fn shape(&mut self) -> Result<Vec<usize>> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.skip(')') {
            self.0 = self.0.trim_start();
            let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let (number, rest) = self.0.split_at(digits);
            // Suffix of Python 2's long integers.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            shape.push(number.parse().map_err(|_| "expected a shape of integers of at least 0")?);
            if !self.skip(',') && !self.0.trim_start().starts_with(')') {
                return Err("expected a comma or ) in the shape".into());
            }
        }
        Ok(shape)
    }
}
