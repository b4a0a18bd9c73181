//! Whether bytes are a struct in Thrift's [compact protocol](https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md)
//! that can be decoded in a time that grows with their number.
//!
//! The library takes booleans in a list that it does not know for values without bytes: it counts through as many as the
//! list says that it has. And it reads what it knows without a look at the type that the bytes give, so that it may find
//! such a list where another reader sees a number. So here no collection may hold booleans (those of the headers of Parquet
//! never do), and what the library knows must have its type.

use std::io::{self, BufRead, Read, sink};

use thiserror::Error;

/// How deep the library follows what it does not know.
const MAX_DEPTH: usize = 64;
/// Bits of the largest number.
const NUMBER_BITS: u32 = 64;

/// Types as the protocol numbers them.
mod kind {
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const BYTE: u8 = 3;
    pub const I16: u8 = 4;
    pub const I64: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const SET: u8 = 10;
    pub const MAP: u8 = 11;
    pub const STRUCT: u8 = 12;
    pub const UUID: u8 = 13;
}

/// What a value has to be.
#[derive(Debug)]
pub enum Shape {
    Flag,
    Byte,
    /// Of any width: all are written alike.
    Integer,
    Double,
    Binary,
    List(&'static Shape),
    /// The fields that the library knows, by their number.
    Struct(&'static [(i16, Shape)]),
}

impl Shape {
    fn fits(&self, kind: u8) -> bool {
        match self {
            Self::Flag => matches!(kind, kind::TRUE | kind::FALSE),
            Self::Byte => kind == kind::BYTE,
            Self::Integer => (kind::I16..=kind::I64).contains(&kind),
            Self::Double => kind == kind::DOUBLE,
            Self::Binary => kind == kind::BINARY,
            Self::List(_) => kind == kind::LIST,
            Self::Struct(_) => kind == kind::STRUCT,
        }
    }

    fn element(&self) -> Option<&'static Shape> {
        if let Self::List(element) = self { Some(element) } else { None }
    }

    fn field(&self, wanted: i16) -> Option<&'static Shape> {
        let Self::Struct(fields) = self else { return None };
        fields.iter().find(|(number, _)| *number == wanted).map(|(_, shape)| shape)
    }
}

/// Why bytes are no struct that may be decoded.
#[derive(Debug, Error)]
pub enum Malformed {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("its metadata is nested more than {MAX_DEPTH} deep")]
    Depth,
    #[error("its metadata has a number of more than {NUMBER_BITS} bits")]
    Number,
    #[error("its metadata has a value of type {kind} where the format has another")]
    Kind { kind: u8 },
    #[error("its metadata has a collection of booleans, which the format never uses")]
    Booleans,
    #[error("its metadata has a field beyond the last number")]
    Field,
}

/// Reads one struct of this shape to its end.
pub fn check(bytes: &mut impl BufRead, shape: &'static Shape) -> Result<(), Malformed> {
    value(bytes, kind::STRUCT, Some(shape), MAX_DEPTH)
}

fn value(bytes: &mut impl BufRead, kind: u8, shape: Option<&'static Shape>, depth: usize) -> Result<(), Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed::Depth)?;
    if shape.is_some_and(|shape| !shape.fits(kind)) {
        return Err(Malformed::Kind { kind });
    }
    match kind {
        kind::TRUE | kind::FALSE => Ok(()),
        kind::BYTE => skip(bytes, 1),
        kind::I16..=kind::I64 => number(bytes).map(drop),
        kind::DOUBLE => skip(bytes, 8),
        kind::BINARY => {
            let length = number(bytes)?;
            skip(bytes, length)
        }
        kind::LIST | kind::SET => list(bytes, shape.and_then(Shape::element), depth),
        kind::MAP => map(bytes, depth),
        kind::STRUCT => fields(bytes, shape, depth),
        kind::UUID => skip(bytes, 16),
        _ => Err(Malformed::Kind { kind }),
    }
}

fn fields(bytes: &mut impl BufRead, shape: Option<&'static Shape>, depth: usize) -> Result<(), Malformed> {
    let mut field = 0i16;
    loop {
        let header = byte(bytes)?;
        let (step, kind) = (header >> 4, header & 0xf);
        if kind == 0 {
            return Ok(());
        }
        field = match step {
            0 => zigzag(number(bytes)?) as i16,
            step => field.checked_add(step.into()).ok_or(Malformed::Field)?,
        };
        value(bytes, kind, shape.and_then(|shape| shape.field(field)), depth)?;
    }
}

fn list(bytes: &mut impl BufRead, element: Option<&'static Shape>, depth: usize) -> Result<(), Malformed> {
    let header = byte(bytes)?;
    let count = match header >> 4 {
        15 => number(bytes)?,
        count => count.into(),
    };
    (0..count).try_for_each(|_| item(bytes, header & 0xf, element, depth))
}

fn map(bytes: &mut impl BufRead, depth: usize) -> Result<(), Malformed> {
    let count = number(bytes)?;
    let kinds = if count == 0 { 0 } else { byte(bytes)? };
    (0..count).try_for_each(|_| {
        item(bytes, kinds >> 4, None, depth)?;
        item(bytes, kinds & 0xf, None, depth)
    })
}

/// What a collection holds; all that it may hold takes a byte or more.
fn item(bytes: &mut impl BufRead, kind: u8, shape: Option<&'static Shape>, depth: usize) -> Result<(), Malformed> {
    match kind {
        kind::TRUE | kind::FALSE => Err(Malformed::Booleans),
        _ => value(bytes, kind, shape, depth),
    }
}

fn byte(bytes: &mut impl BufRead) -> io::Result<u8> {
    let mut byte = [0];
    bytes.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Seven bits in each byte, the lowest first, until one is below 128.
fn number(bytes: &mut impl BufRead) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..NUMBER_BITS).step_by(7) {
        let byte = byte(bytes)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed::Number)
}

/// Numbers with a sign: 0, -1, 1, -2 and so on.
fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn skip(bytes: &mut impl BufRead, length: u64) -> Result<(), Malformed> {
    let skipped = io::copy(&mut bytes.by_ref().take(length), &mut sink())?;
    if skipped < length { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1: an integer, 2: a list of structs, which have 1: bytes.
    const SHAPE: Shape = Shape::Struct(&[(1, Shape::Integer), (2, Shape::List(&Shape::Struct(&[(1, Shape::Binary)])))]);
    /// As many as the protocol can say: 2^31 - 1.
    const ENDLESS: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x07];

    fn walk(parts: &[&[u8]]) -> Result<usize, Malformed> {
        let bytes = parts.concat();
        let mut rest = bytes.as_slice();
        check(&mut rest, &SHAPE).map(|()| rest.len())
    }

    #[test]
    fn a_struct_is_read_to_its_end() {
        let known: &[u8] = &[0x15, 0xac, 0x02, 0x19, 0x2c, 0x18, 3, b'a', b'b', b'c', 0, 0];
        // Field 20 by its whole number, then 21 to 27: a true, a byte, a double, a UUID, a set, two maps.
        let unknown: &[&[u8]] = &[
            &[0x06, 40, 1],
            &[0x11, 0x13, 9],
            &[0x17, 0, 0, 0, 0, 0, 0, 0, 0],
            &[&[0x1d], [7; 16].as_slice()].concat(),
            &[0x1a, 0x25, 1, 2],
            &[0x1b, 1, 0x85, 1, b'k', 2],
            &[0x1b, 0],
        ];
        assert_eq!(walk(&[known, &unknown.concat(), &[0, 8, 8]]).unwrap(), 2);
    }

    #[test]
    fn collections_of_booleans_are_refused_wherever_they_are() {
        let list: &[u8] = &[&[0xf1], ENDLESS.as_slice()].concat();
        let wrapped: [&[&[u8]]; 6] = [
            &[&[0x99], list],
            &[&[0x99, 0xf2], &ENDLESS],
            &[&[0x9a], list],
            &[&[0x9b], &ENDLESS, &[0x12]],
            &[&[0x99, 0x19], list],
            &[&[0x9c, 0x1b, 1, 0x39, 7], list],
        ];
        for bytes in wrapped {
            assert!(matches!(walk(bytes), Err(Malformed::Booleans)), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_known_has_its_type() {
        let list: &[u8] = &[&[0xf1], ENDLESS.as_slice()].concat();
        assert!(matches!(walk(&[&[0x19], list]), Err(Malformed::Kind { kind: kind::LIST })));
        assert!(matches!(walk(&[&[0x29, 0x15, 1]]), Err(Malformed::Kind { kind: kind::I16.. })));
        assert!(matches!(walk(&[&[0x29, 0x1c, 0x15, 1]]), Err(Malformed::Kind { .. })));
        assert!(matches!(walk(&[&[0x9e]]), Err(Malformed::Kind { kind: 14 })));
    }

    #[test]
    fn an_end_too_early_is_an_error() {
        for bytes in [&[][..], &[0x15], &[0x15, 0x80], &[0x28, 5, b'a'], &[0x99, 0xf5, 0xff, 0xff, 0x03, 1]] {
            assert!(matches!(walk(&[bytes]), Err(Malformed::Unreadable(_) | Malformed::Kind { .. })), "{bytes:?}");
        }
        assert!(matches!(walk(&[&[0x15], &[0x80; 10]]), Err(Malformed::Number)));
        assert!(matches!(walk(&[&[0x06, 0xfe, 0xff, 0x03, 1, 0x15, 1]]), Err(Malformed::Field)));
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth| walk(&[&vec![0x9c; depth], &vec![0; depth + 1]]);
        assert_eq!(nested(MAX_DEPTH - 1).unwrap(), 0);
        assert!(matches!(nested(MAX_DEPTH), Err(Malformed::Depth)));
    }
}
