//! A reader for Python pickles that builds values and never calls anything.
//!
//! Every opcode adds at most one value to an arena, and values refer to each other by index: a pickle can neither make
//! the reader recurse nor make it hold more than a small multiple of the pickle's own size.

mod reader;

use std::collections::BTreeSet;

/// Index of a value in a [`Pickle`].
pub type Id = usize;

/// A pickle that cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PickleError {
    #[error("the pickle ends in the middle, at byte {0}: the file is cut off")]
    Truncated(usize),
    #[error("byte {position} of the pickle: {reason}")]
    Invalid { position: usize, reason: String },
    #[error("byte {position} of the pickle asks to call `{callable}`, which no checkpoint needs: refused, nothing ran")]
    Refused { position: usize, callable: String },
}

/// A value of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Dictionaries of every kind, in order.
    Dict(Vec<(Id, Id)>),
    /// A class or function, by its dotted name; never looked up.
    Global(String),
    /// The result of a call (never made): what would be called, and its argument tuple.
    Call(Id, Id),
    /// A reference to data outside the pickle.
    Persistent(Id),
    /// Objects of foreign classes and whatever else a checkpoint's tensors do not need.
    Opaque,
}

/// The values of one pickle.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
    foreign: BTreeSet<String>,
}

impl Pickle {
    /// Reads one pickle from the start of `bytes`; also returns how many bytes it took.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), PickleError> {
        let reader::Read { values, root, length, foreign } = reader::read(bytes)?;
        Ok((Self { values, root, foreign }, length))
    }

    /// Classes and functions of other programs that the pickle has objects of; the objects are opaque.
    pub fn foreign(&self) -> &BTreeSet<String> {
        &self.foreign
    }

    /// The value that was pickled.
    pub fn root(&self) -> &Value {
        self.get(self.root)
    }

    /// A value by its index.
    pub fn get(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::Opaque)
    }

    /// Every value, in the order of their making.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A tuple of sizes.
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        self.tuple(id)?.iter().map(|&item| usize::try_from(self.int(item)?).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::reader::MAX_OPCODES;
    use super::*;

    fn error(bytes: &[u8]) -> PickleError {
        Pickle::read(bytes).unwrap_err()
    }

    #[test]
    fn calls_are_refused_by_name() {
        // cposix\nsystem\n(S'…'tR of protocol 0, with a text of protocol 2.
        let refused = |bytes: &[u8]| match error(bytes) {
            PickleError::Refused { callable, .. } => callable,
            other => panic!("{other}"),
        };
        assert_eq!(refused(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R."), "posix.system");
        assert_eq!(refused(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R."), "builtins.eval");
        assert_eq!(refused(b"(X\x02\x00\x00\x00lsios\nsystem\n."), "os.system");
        assert_eq!(refused(b"(cos\nsystem\nX\x02\x00\x00\x00lso."), "os.system");
        assert_eq!(refused(b"cnumpy.testing\nrunstring\n)R."), "numpy.testing.runstring");
        assert_eq!(refused(b"ctorch\nload\n)R."), "torch.load");
    }

    /// `{"mode": Mode("a"), "range": range(0, 1, 1), "bytes": bytearray(b"a"), "n": 1}` of protocols 2 and 4, and an
    /// enumeration's member as newer Pythons write it.
    #[test]
    fn foreign_objects_are_opaque_and_named() {
        let pickle: &[u8] = b"\x80\x02}(X\x04\0\0\0modec__main__\nMode\nX\x01\0\0\0a\x85R\
            X\x05\0\0\0rangec__builtin__\nxrange\nK\0K\x01K\x01\x87R\
            X\x05\0\0\0bytescbuiltins\nbytearray\nC\x01a\x85R\
            X\x06\0\0\0membercbuiltins\ngetattr\nc__main__\nMode\nX\x01\0\0\0A\x86R\
            X\x05\0\0\0spaceccustom.loader\nLoadedSpace\n)\x81}X\x01\0\0\0xK\x05sb\
            X\x01\0\0\0nK\x01u.";
        let (pickle, _) = Pickle::read(pickle).unwrap();
        let Value::Dict(entries) = pickle.root() else { panic!("{:?}", pickle.root()) };
        let found: Vec<(&str, &Value)> =
            entries.iter().map(|&(key, value)| (pickle.text(key).unwrap(), pickle.get(value))).collect();
        let opaque = ["mode", "range", "bytes", "member", "space"].map(|name| (name, &Value::Opaque));
        assert_eq!(found, [&opaque[..], &[("n", &Value::Int(1))]].concat());
        let foreign: Vec<&str> = pickle.foreign().iter().map(String::as_str).collect();
        assert_eq!(foreign, ["__builtin__.xrange", "__main__.Mode", "custom.loader.LoadedSpace"]);
    }

    #[test]
    fn broken_pickles_are_errors() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b]q\x01(K\x02K\x03eu.";
        let (pickle, length) = Pickle::read(whole).unwrap();
        assert_eq!(length, whole.len());
        let Value::Dict(entries) = pickle.root() else { panic!("{:?}", pickle.root()) };
        assert_eq!((pickle.text(entries[0].0), pickle.int(entries[0].1)), (Some("a"), Some(1)));
        for end in 0..whole.len() {
            assert!(matches!(error(&whole[..end]), PickleError::Truncated(_)), "{end}");
        }
        for bytes in [&b"R."[..], b"s.", b"h\x07.", b"(u.", b"t.", b"K\x01K\x02a.", b"}(K\x01u.", b"\xff.", b"(0."] {
            assert!(matches!(error(bytes), PickleError::Invalid { .. }), "{bytes:?}");
        }
        let long_name = [b"\x8d\x01\x10\0\0\0\0\0\0", &[b'a'; 0x1001][..], b"2\x93."].concat();
        assert!(matches!(error(&long_name), PickleError::Invalid { .. }));
        assert!(matches!(error(&vec![b'('; MAX_OPCODES + 2]), PickleError::Invalid { .. }));
        // A length of 4 GiB allocates nothing.
        assert!(matches!(error(b"X\xff\xff\xff\xffa"), PickleError::Truncated(_)));
    }
}
