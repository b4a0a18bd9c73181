//! PyTorch checkpoints (`.pth`, `.ckpt`): the zip format, and the one before it.
//!
//! The pickle inside is only read, see [`super::pickle`]. Tensors stay views of the file's bytes until one is asked
//! for, so that a file cannot make the reader allocate more than the networks need.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::pickle::{Id, Pickle, PickleError, Value};
use crate::files::{self, FileError};

/// A checkpoint that cannot be read; names the file, and the tensor where it is about one.
#[derive(Debug, thiserror::Error)]
pub enum PytorchError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {reason}", .path.display())]
    Format { path: PathBuf, reason: String },
    #[error("{}: {error}", .path.display())]
    Pickle { path: PathBuf, error: PickleError },
    #[error("{}: tensor {name}: {reason}", .path.display())]
    Tensor { path: PathBuf, name: String, reason: String },
}

/// What a pickle may be large at most; those of real checkpoints have some megabytes.
const MAX_PICKLE: usize = 256 << 20;
/// Dimensions that a tensor may have; one shape can belong to any number of tensors, and each holds a copy.
const MAX_DIMENSIONS: usize = 8;
/// Keys that a message names.
const MAX_SHOWN_KEYS: usize = 12;
/// Starts a file of the old format: protocol 2, and the magic number 0x1950a86a20f9469cfc6c.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The number format of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Element {
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "torch.DoubleStorage" => Self::F64,
            "torch.FloatStorage" => Self::F32,
            "torch.HalfStorage" => Self::F16,
            "torch.BFloat16Storage" => Self::Bf16,
            "torch.LongStorage" => Self::I64,
            "torch.IntStorage" => Self::I32,
            "torch.ShortStorage" => Self::I16,
            "torch.CharStorage" => Self::I8,
            "torch.ByteStorage" => Self::U8,
            "torch.BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// What the elements become here; small integers become wider ones.
    fn dtype(self) -> DType {
        match self {
            Self::F64 => DType::F64,
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
            Self::I64 | Self::I32 | Self::I16 | Self::I8 => DType::I64,
            Self::U8 | Self::Bool => DType::U8,
        }
    }
}

/// Where a tensor lies.
#[derive(Debug, Clone, PartialEq)]
struct View {
    /// The bytes of its storage in the file.
    storage: Range<usize>,
    element: Element,
    /// In elements.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl View {
    /// The shape without repetitions: sizes of stride 0 become 1.
    fn stored_shape(&self) -> Vec<usize> {
        let stored = |(&size, &stride): (&usize, &usize)| if stride == 0 { size.min(1) } else { size };
        self.shape.iter().zip(&self.strides).map(stored).collect()
    }

    /// Checks that every element lies in the storage, and that none is there twice but along sizes of stride 0
    /// (expanded tensors), which take no memory.
    fn check_bounds(&self) -> Result<(), String> {
        let available = self.storage.len() / self.element.bytes();
        if self.shape.len() != self.strides.len() {
            return Err("shape and strides differ in length".to_string());
        }
        // Without regard to zeros: a size beside one must be possible too.
        let count = self.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size.max(1)));
        count.ok_or("has too many elements")?;
        let count = self.stored_shape().iter().product::<usize>();
        if self.shape.contains(&0) {
            return Ok(());
        }
        let mut sizes = self.shape.iter().zip(&self.strides);
        let last =
            sizes.try_fold(self.offset, |last, (&size, &stride)| last.checked_add((size - 1).checked_mul(stride)?));
        match last {
            Some(last) if last < available && count <= available => Ok(()),
            _ => Err(format!("shape {:?} reaches beyond its storage of {available} elements", self.shape)),
        }
    }
}

/// A checkpoint in memory.
pub struct PytorchFile {
    path: PathBuf,
    bytes: Vec<u8>,
    pickle: Pickle,
    /// The bytes of each storage, by its key.
    storages: BTreeMap<String, Range<usize>>,
}

/// The tensors of one dictionary of a checkpoint.
pub struct StateDict<'a> {
    file: &'a PytorchFile,
    tensors: BTreeMap<String, View>,
}

impl PytorchFile {
    /// Reads a checkpoint; nothing in it is executed.
    pub fn open(path: &Path) -> Result<Self, PytorchError> {
        Self::from_bytes(files::read(path)?, path)
    }

    /// A checkpoint from its bytes; `path` is its name in errors.
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self, PytorchError> {
        let (pickle, storages) = if bytes.starts_with(LEGACY_MAGIC) {
            open_legacy(&bytes, path)?
        } else if bytes.starts_with(b"PK") {
            open_zip(&bytes, path)?
        } else {
            let reason = "not a PyTorch checkpoint (neither the zip format nor the one before it)".to_string();
            return Err(PytorchError::Format { path: path.to_path_buf(), reason });
        };
        Ok(Self { path: path.to_path_buf(), bytes, pickle, storages })
    }

    /// The file's name, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The classes and functions of other programs that the file has objects of. Nothing of them was run; the objects are
    /// passed over.
    pub fn foreign(&self) -> &BTreeSet<String> {
        self.pickle.foreign()
    }

    /// The dictionary under the first of `keys` that is there; otherwise the whole file as one dictionary.
    pub fn state_dict(&self, keys: &[&str]) -> Result<StateDict<'_>, PytorchError> {
        let root = self.entries(self.pickle.root()).ok_or_else(|| self.format("holds no dictionary of tensors"))?;
        let inner = keys.iter().find_map(|key| {
            let (_, value) = root.iter().find(|(name, _)| self.pickle.text(*name) == Some(key))?;
            self.entries(self.pickle.get(*value))
        });
        let mut tensors = BTreeMap::new();
        for &(key, value) in inner.unwrap_or(root) {
            let Some(name) = self.pickle.text(key) else { continue };
            if let Some(view) = self.view(value, name)? {
                tensors.insert(name.to_string(), view);
            }
        }
        if tensors.is_empty() {
            return Err(self.format(&self.no_tensors(keys, inner.unwrap_or(root))));
        }
        Ok(StateDict { file: self, tensors })
    }

    /// What to say where a dictionary has no tensors: what was looked for, and what is there.
    fn no_tensors(&self, keys: &[&str], found: &[(Id, Id)]) -> String {
        let wanted = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" or ");
        let wanted = if keys.is_empty() { String::new() } else { format!(" (under {wanted}, or at the top)") };
        let there: Vec<&str> =
            found.iter().filter_map(|&(key, _)| self.pickle.text(key)).take(MAX_SHOWN_KEYS).collect();
        let there = if there.is_empty() { "nothing with a name".to_string() } else { there.join(", ") };
        format!("holds no tensors where the state of a network should be{wanted}; there is {there}")
    }

    /// A whole number at the top of the file, such as `global_step`.
    pub fn number(&self, key: &str) -> Option<i64> {
        let root = self.entries(self.pickle.root())?;
        let (_, value) = root.iter().find(|(name, _)| self.pickle.text(*name) == Some(key))?;
        self.pickle.int(*value)
    }

    fn entries<'a>(&self, value: &'a Value) -> Option<&'a [(Id, Id)]> {
        match value {
            Value::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    fn format(&self, reason: &str) -> PytorchError {
        PytorchError::Format { path: self.path.clone(), reason: reason.to_string() }
    }

    fn tensor_error(&self, name: &str, reason: impl Into<String>) -> PytorchError {
        PytorchError::Tensor { path: self.path.clone(), name: name.to_string(), reason: reason.into() }
    }

    /// Where a value lies if it is a tensor.
    fn view(&self, value: Id, name: &str) -> Result<Option<View>, PytorchError> {
        let (mut value, mut wrappers) = (value, 0);
        loop {
            let Value::Call(callable, arguments) = *self.pickle.get(value) else { return Ok(None) };
            let Value::Global(function) = self.pickle.get(callable) else { return Ok(None) };
            let arguments = self.pickle.tuple(arguments).unwrap_or_default();
            value = match (function.as_str(), arguments) {
                ("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor", arguments) => {
                    return self.rebuild(arguments).map(Some).map_err(|reason| self.tensor_error(name, reason));
                }
                ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", [data, ..]) => *data,
                _ => return Err(self.tensor_error(name, format!("made by `{function}`, which is not supported"))),
            };
            wrappers += 1;
            if wrappers > 4 {
                return Err(self.tensor_error(name, "a parameter of a parameter"));
            }
        }
    }

    /// A view from the arguments of `_rebuild_tensor_v2`: storage, offset, size, stride, ….
    fn rebuild(&self, arguments: &[Id]) -> Result<View, String> {
        let pickle = &self.pickle;
        let &[storage, offset, shape, strides, ..] = arguments else {
            return Err("needs storage, offset, size and stride".to_string());
        };
        let Value::Persistent(storage) = *pickle.get(storage) else {
            return Err("its storage is not a reference".to_string());
        };
        // ('storage', class, key, location, elements, …)
        let Some(&[_, class, key, ..]) = pickle.tuple(storage).filter(|id| id.len() >= 5) else {
            return Err("its storage reference is incomplete".to_string());
        };
        let class = match pickle.get(class) {
            Value::Global(class) => class.as_str(),
            _ => "unnamed",
        };
        let element = Element::of_storage(class).ok_or_else(|| format!("storage type {class} is not supported"))?;
        let key = pickle.text(key).ok_or("its storage has no key")?;
        let storage = self.storages.get(key).ok_or_else(|| format!("storage {key} is missing"))?;
        let sizes = |id| pickle.sizes(id).filter(|sizes| sizes.len() <= MAX_DIMENSIONS);
        let offset = pickle.int(offset).and_then(|offset| usize::try_from(offset).ok());
        let view = View {
            storage: storage.clone(),
            element,
            offset: offset.ok_or("its offset is not a size")?,
            shape: sizes(shape).ok_or("its shape is not a tuple of at most 8 sizes")?,
            strides: sizes(strides).ok_or("its strides are not a tuple of at most 8 sizes")?,
        };
        view.check_bounds()?;
        Ok(view)
    }

    /// The numbers of a view, in the order of its shape.
    fn gather(&self, view: &View) -> candle_core::Result<Tensor> {
        let width = view.element.bytes();
        let storage = &self.bytes[view.storage.clone()];
        let shape = view.stored_shape();
        let count = shape.iter().product::<usize>();
        let mut data = Vec::with_capacity(count * width);
        let mut index = vec![0usize; shape.len()];
        for _ in 0..count {
            let element: usize = index.iter().zip(&view.strides).map(|(index, stride)| index * stride).sum();
            let start = (view.offset + element) * width;
            data.extend_from_slice(&storage[start..start + width]);
            for (position, &size) in index.iter_mut().zip(&shape).rev() {
                *position += 1;
                if *position < size {
                    break;
                }
                *position = 0;
            }
        }
        let integers = |width: usize| -> Vec<i64> {
            let sign_extended = |bytes: &[u8]| {
                let mut wide = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { [0xff; 8] } else { [0; 8] };
                wide[..width].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            };
            data.chunks_exact(width).map(sign_extended).collect()
        };
        let stored = match view.element {
            Element::I64 | Element::I32 | Element::I16 | Element::I8 => {
                Tensor::from_vec(integers(width), shape.as_slice(), &Device::Cpu)?
            }
            element => Tensor::from_raw_buffer(&data, element.dtype(), &shape, &Device::Cpu)?,
        };
        stored.broadcast_as(view.shape.as_slice())
    }
}

impl StateDict<'_> {
    /// The file that it belongs to.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Names and shapes, in the order of the names.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, view)| (name.as_str(), view.shape.as_slice()))
    }

    /// Loads one tensor.
    pub fn tensor(&self, name: &str) -> Result<Tensor, PytorchError> {
        let view = self.tensors.get(name).ok_or_else(|| self.file.tensor_error(name, "is missing"))?;
        self.file.gather(view).map_err(|error| self.file.tensor_error(name, error.to_string()))
    }
}

type Opened = (Pickle, BTreeMap<String, Range<usize>>);

fn open_zip(bytes: &[u8], path: &Path) -> Result<Opened, PytorchError> {
    let fail = |reason: String| PytorchError::Format { path: path.to_path_buf(), reason };
    let broken = |error| fail(format!("not a whole zip file ({error}); download or copy it again"));
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.has_overlapping_files().map_err(broken)? {
        return Err(fail("entries of the zip file overlap, which PyTorch never writes".to_string()));
    }
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        if entry.compression() != zip::CompressionMethod::Stored || entry.encrypted() {
            return Err(fail(format!("entry {name} is compressed or encrypted; PyTorch writes neither")));
        }
        // Reading to the end checks the checksum.
        std::io::copy(&mut entry, &mut std::io::sink())
            .map_err(|error| fail(format!("entry {name} is damaged ({error}); download or copy the file again")))?;
        let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
        let range = start.zip(usize::try_from(entry.size()).ok()).and_then(|(start, size)| {
            let end = start.checked_add(size).filter(|&end| end <= bytes.len())?;
            Some(start..end)
        });
        entries.insert(name, range.ok_or_else(|| fail("not a whole zip file".to_string()))?);
    }
    let main = entries.iter().find_map(|(name, range)| Some((name.strip_suffix("data.pkl")?.to_string(), range)));
    let (folder, range) =
        main.ok_or_else(|| fail("a zip file without data.pkl: not a PyTorch checkpoint".to_string()))?;
    if range.len() > MAX_PICKLE {
        return Err(fail(format!("its pickle has {} bytes, more than any checkpoint's", range.len())));
    }
    let byteorder = entries.get(&format!("{folder}byteorder")).map(|range| &bytes[range.clone()]);
    if byteorder.is_some_and(|order| order != b"little") {
        return Err(fail("its numbers are big-endian, which is not supported".to_string()));
    }
    let (pickle, _) = read_pickle(&bytes[range.clone()], path)?;
    let data = format!("{folder}data/");
    let storage =
        |(name, range): (&String, &Range<usize>)| Some((name.strip_prefix(&data)?.to_string(), range.clone()));
    Ok((pickle, entries.iter().filter_map(storage).collect()))
}

fn read_pickle(bytes: &[u8], path: &Path) -> Result<(Pickle, usize), PytorchError> {
    Pickle::read(bytes).map_err(|error| PytorchError::Pickle { path: path.to_path_buf(), error })
}

/// Magic number, protocol version, system information, the object, the keys of the storages, then each storage: its
/// count as i64, and its elements.
fn open_legacy(bytes: &[u8], path: &Path) -> Result<Opened, PytorchError> {
    let fail = |reason: &str| PytorchError::Format { path: path.to_path_buf(), reason: reason.to_string() };
    let mut position = LEGACY_MAGIC.len();
    let mut next = || -> Result<(Pickle, usize), PytorchError> {
        let rest = &bytes[position..];
        let (pickle, length) = read_pickle(&rest[..rest.len().min(MAX_PICKLE)], path)?;
        position += length;
        Ok((pickle, position))
    };
    next()?;
    next()?;
    let (object, _) = next()?;
    let (keys, mut position) = next()?;
    let Value::List(ids) = keys.root() else { return Err(fail("its list of storages is not a list")) };
    let sizes = storage_sizes(&object);
    let mut storages = BTreeMap::new();
    for &id in ids {
        let key = keys.text(id).ok_or_else(|| fail("a storage has no key"))?;
        let count =
            bytes.get(position..).and_then(|rest| rest.first_chunk::<8>()).map(|count| u64::from_le_bytes(*count));
        let size = sizes.get(key).copied();
        let range = count.zip(size).and_then(|(count, size)| {
            let start = position.checked_add(8)?;
            let end = start.checked_add(usize::try_from(count).ok()?.checked_mul(size)?)?;
            (end <= bytes.len()).then_some(start..end)
        });
        let range = range.ok_or_else(|| fail("a storage is cut off or of an unknown type: the file is not whole"))?;
        position = range.end;
        storages.insert(key.to_string(), range);
    }
    Ok((object, storages))
}

/// Bytes per element of every storage that a pickle refers to.
fn storage_sizes(pickle: &Pickle) -> BTreeMap<&str, usize> {
    let references = pickle.values().filter_map(|value| match value {
        Value::Persistent(id) => pickle.tuple(*id),
        _ => None,
    });
    let size = |reference: &[Id]| {
        let (&class, &key) = (reference.get(1)?, reference.get(2)?);
        let Value::Global(class) = pickle.get(class) else { return None };
        Some((pickle.text(key)?, Element::of_storage(class)?.bytes()))
    };
    references.filter_map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of the old format: its dictionary has one tensor `a`, of the shape and strides that these opcodes make,
    /// over a storage of four bytes.
    fn file(shape: &[u8], strides: &[u8]) -> PytorchFile {
        let parts: [&[u8]; 9] = [
            LEGACY_MAGIC,
            b"K\x01.}.",
            b"}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n(",
            b"(X\x07\0\0\0storagectorch\nByteStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK\0",
            shape,
            strides,
            b"tRs.",
            b"](X\x01\0\0\x000e.",
            b"\x04\0\0\0\0\0\0\0abcd",
        ];
        PytorchFile::from_bytes(parts.concat(), Path::new("a.pth")).unwrap()
    }

    #[test]
    fn views_are_checked() {
        let square = file(b"K\x02K\x02\x86", b"K\x01K\x02\x86");
        let tensor = square.state_dict(&[]).unwrap().tensor("a").unwrap();
        assert_eq!(tensor.to_vec2::<u8>().unwrap(), [[b'a', b'c'], [b'b', b'd']]);

        // `expand` gives sizes of stride 0, which repeat one element however often.
        let expanded = file(b"K\x02J\0\0\0\x7f\x86", b"K\x03K\0\x86");
        let tensor = expanded.state_dict(&[]).unwrap().tensor("a").unwrap();
        assert_eq!(tensor.dims(), [2, 0x7f00_0000]);
        let ends = tensor.narrow(1, 0x7eff_fffe, 2).unwrap().to_vec2::<u8>().unwrap();
        assert_eq!(ends, [[b'a', b'a'], [b'd', b'd']]);

        let refused = |shape: &[u8], strides: &[u8]| file(shape, strides).state_dict(&[]).err().unwrap().to_string();
        assert!(refused(b"K\x03\x85", b"K\x02\x85").contains("beyond its storage"));
        assert!(refused(b"K\x03K\x02\x86", b"K\x02K\0\x86").contains("beyond its storage"));
        let ones = [&b"("[..], &[b'K', 1].repeat(9), b"t"].concat();
        assert!(refused(&ones, &ones).contains("at most 8 sizes"));
        // 0 x 2^40 x 2^40 elements.
        let huge = b"K\0\x8a\x06\0\0\0\0\0\x01\x8a\x06\0\0\0\0\0\x01\x87";
        assert!(refused(huge, b"K\x01K\x01K\x01\x87").contains("too many elements"));
    }
}
