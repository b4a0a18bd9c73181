//! The opcodes of a pickle.

use std::collections::{BTreeSet, HashMap};

use super::{Id, PickleError, Value};

/// No checkpoint has nearly as many; every opcode can make the reader hold some dozen bytes.
pub const MAX_OPCODES: usize = 1 << 22;
/// Longest part of a name that is put together of texts: one text can become part of any number of names.
const MAX_NAME: usize = 256;

/// Names of foreign classes that are kept to be told.
const MAX_FOREIGN: usize = 64;

/// What was read.
pub struct Read {
    pub values: Vec<Value>,
    /// Which of them was pickled.
    pub root: Id,
    /// How many bytes the pickle took.
    pub length: usize,
    /// Classes and functions of other programs that the pickle has objects of.
    pub foreign: BTreeSet<String>,
}

/// Reads the pickle at the start of `bytes`.
pub fn read(bytes: &[u8]) -> Result<Read, PickleError> {
    let mut reader = Reader::new(bytes);
    let mut opcodes = 0;
    while !reader.step()? {
        opcodes += 1;
        if opcodes > MAX_OPCODES {
            return Err(reader.invalid("it has more opcodes than any checkpoint's"));
        }
    }
    let root = reader.pop()?;
    Ok(Read { values: reader.values, root, length: reader.position, foreign: reader.foreign })
}

/// Whether a pickle that asks for a call of this means harm. Nothing is called anyway, but such a file is not worth
/// trusting.
fn harmful(callable: &str) -> bool {
    const PACKAGES: [&str; 12] = [
        "os",
        "posix",
        "nt",
        "sys",
        "subprocess",
        "shutil",
        "socket",
        "runpy",
        "importlib",
        "pty",
        "ctypes",
        "webbrowser",
    ];
    const FUNCTIONS: [&str; 8] = ["eval", "exec", "compile", "open", "load", "system", "runstring", "__import__"];
    let package = callable.split('.').next().unwrap_or_default();
    let function = callable.rsplit('.').next().unwrap_or_default();
    PACKAGES.contains(&package) || FUNCTIONS.iter().any(|harmful| function.starts_with(harmful))
}

/// Whether this belongs to Python, PyTorch, Lightning and the libraries around them, whose objects are in most
/// checkpoints and not worth a word.
fn usual(callable: &str) -> bool {
    const PACKAGES: [&str; 17] = [
        "torch",
        "numpy",
        "collections",
        "pathlib",
        "datetime",
        "typing",
        "argparse",
        "omegaconf",
        "pytorch_lightning",
        "lightning",
        "lightning_fabric",
        "ldm",
        "taming",
        "_codecs",
        "copyreg",
        "copy_reg",
        "builtins",
    ];
    PACKAGES.contains(&callable.split('.').next().unwrap_or_default())
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    foreign: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            foreign: BTreeSet::new(),
        }
    }

    fn invalid(&self, reason: impl Into<String>) -> PickleError {
        PickleError::Invalid { position: self.position, reason: reason.into() }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let end = self.position.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(PickleError::Truncated(self.bytes.len()))?;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, PickleError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn length8(&mut self) -> Result<usize, PickleError> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| PickleError::Truncated(self.bytes.len()))
    }

    fn string(&mut self, length: usize) -> Result<String, PickleError> {
        // Lone surrogates, which Python can pickle, are of no interest in names.
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(PickleError::Truncated(self.bytes.len()))?;
        let line = self.string(length)?;
        self.position += 1;
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    /// Values below the last mark cannot be popped.
    fn pop(&mut self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let popped = if self.stack.len() > floor { self.stack.pop() } else { None };
        popped.ok_or_else(|| self.invalid("takes a value from an empty stack"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.invalid("there is no open mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Id, PickleError> {
        self.stack.last().copied().ok_or_else(|| self.invalid("the stack is empty"))
    }

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>, PickleError> {
        let pairs = items.chunks(2).map(|pair| match *pair {
            [key, value] => Ok((key, value)),
            _ => Err(self.invalid("a key has no value")),
        });
        pairs.collect()
    }

    fn extend_dict(&mut self, pairs: Vec<(Id, Id)>) -> Result<(), PickleError> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Dict(entries) => entries.extend(pairs),
            Value::Opaque => {}
            _ => return Err(self.invalid("sets items of something that is not a dictionary")),
        }
        Ok(())
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            Value::Opaque => {}
            _ => return Err(self.invalid("appends to something that is not a list")),
        }
        Ok(())
    }

    /// Stands in for a call: a dictionary where it would make one, a note of tensor rebuilding, or nothing.
    fn call(&mut self, callable: Id, arguments: Id) -> Result<(), PickleError> {
        let value = match &self.values[callable] {
            Value::Global(name) if matches!(name.as_str(), "collections.OrderedDict" | "collections.defaultdict") => {
                Value::Dict(Vec::new())
            }
            Value::Global(name) if name.starts_with("torch._utils.") || name.starts_with("torch._tensor.") => {
                Value::Call(callable, arguments)
            }
            _ => Value::Opaque,
        };
        self.note(callable)?;
        self.push(value);
        Ok(())
    }

    /// Refuses what would be called if it means harm, and keeps in mind what is foreign.
    fn note(&mut self, callable: Id) -> Result<(), PickleError> {
        // What an object makes of itself has no name.
        let Value::Global(name) = &self.values[callable] else { return Ok(()) };
        if harmful(name) {
            return Err(PickleError::Refused { position: self.position, callable: name.clone() });
        }
        if !usual(name) && name.len() <= 2 * MAX_NAME && self.foreign.len() < MAX_FOREIGN {
            self.foreign.insert(name.clone());
        }
        Ok(())
    }

    fn memoize(&mut self, key: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), PickleError> {
        let id = self.memo.get(&key).copied();
        let id = id.ok_or_else(|| self.invalid(format!("memo entry {key} was never made")))?;
        self.stack.push(id);
        Ok(())
    }

    /// A little-endian two's complement number; those beyond 64 bits are opaque.
    fn long(&mut self, length: usize) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut extended = if negative { [0xff; 8] } else { [0; 8] };
        if length > 8 {
            self.push(Value::Opaque);
            return Ok(());
        }
        extended[..length].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(extended)));
        Ok(())
    }

    fn blob(&mut self, length: usize) -> Result<(), PickleError> {
        self.take(length)?;
        self.push(Value::Opaque);
        Ok(())
    }

    /// Executes one opcode; true at the end of the pickle.
    fn step(&mut self) -> Result<bool, PickleError> {
        match self.byte()? {
            b'.' => return Ok(true),
            0x80 => drop(self.byte()?),
            // The length of a frame, of no interest when everything is in memory.
            0x95 => drop(self.array::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            opcode => self.value(opcode)?,
        }
        Ok(false)
    }

    fn value(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => {
                let length = self.byte()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = self.u32()? as usize;
                self.long(length)?;
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(value));
            }
            b'X' | 0x8c | 0x8d => {
                let length = self.length(opcode, 0x8c, 0x8d)?;
                let text = self.string(length)?;
                self.push(Value::Text(text));
            }
            // Bytes of protocols 0 to 2, of protocol 3, and bytearray.
            b'U' | b'C' => {
                let length = self.byte()?;
                self.blob(length.into())?;
            }
            b'T' | b'B' | 0x8e | 0x96 => {
                let length = if matches!(opcode, b'T' | b'B') { self.u32()? as usize } else { self.length8()? };
                self.blob(length)?;
            }
            _ => self.container(opcode)?,
        }
        Ok(())
    }

    fn length(&mut self, opcode: u8, short: u8, long: u8) -> Result<usize, PickleError> {
        match opcode {
            code if code == short => Ok(self.byte()?.into()),
            code if code == long => self.length8(),
            _ => Ok(self.u32()? as usize),
        }
    }

    fn container(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b')' => self.tuple(0)?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                let pairs = self.pairs(&items)?;
                self.push(Value::Dict(pairs));
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                let pairs = self.pairs(&items)?;
                self.extend_dict(pairs)?;
            }
            // Sets: nothing that a checkpoint needs is in one.
            0x8f => self.push(Value::Opaque),
            0x90 => drop(self.pop_to_mark()?),
            0x91 => {
                self.pop_to_mark()?;
                self.push(Value::Opaque);
            }
            _ => self.object(opcode)?,
        }
        Ok(())
    }

    fn object(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(format!("{module}.{name}")));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let part = |id: Id| match &self.values[id] {
                    Value::Text(text) if text.len() <= MAX_NAME => Ok(text.clone()),
                    _ => Err(self.invalid("a class whose name is missing or too long")),
                };
                let name = format!("{}.{}", part(module)?, part(name)?);
                self.push(Value::Global(name));
            }
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments)?;
            }
            b'i' | b'o' => {
                let name = if opcode == b'i' { format!("{}.{}", self.line()?, self.line()?) } else { String::new() };
                let items = self.pop_to_mark()?;
                let name = match (opcode, items.first().map(|&id| &self.values[id])) {
                    (b'o', Some(Value::Global(name))) => name.clone(),
                    _ => name,
                };
                return Err(PickleError::Refused { position: self.position, callable: name });
            }
            // An object without a call of its constructor, from class and arguments (and keywords).
            0x81 | 0x92 => {
                for _ in 0..if opcode == 0x81 { 1 } else { 2 } {
                    self.pop()?;
                }
                let class = self.pop()?;
                self.note(class)?;
                self.push(Value::Opaque);
            }
            // The state of an object: attributes, which nothing here needs.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b'q' => {
                let key = self.byte()?;
                self.memoize(key.into())?;
            }
            b'r' => {
                let key = self.u32()?;
                self.memoize(key)?;
            }
            0x94 => {
                let key = self.memo.len() as u32;
                self.memoize(key)?;
            }
            b'h' => {
                let key = self.byte()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = self.u32()?;
                self.recall(key)?;
            }
            _ => return Err(self.invalid(format!("opcode {opcode:#04x} does not occur in checkpoints"))),
        }
        Ok(())
    }
}
