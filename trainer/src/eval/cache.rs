//! Files with features of the real images, so that they are computed once: safetensors, with an account of what the
//! features are of, or NumPy's `.npy`, without.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::{SafeTensors, View};

use super::EvalError;
use crate::files;

/// The tensor, and the entry of the metadata that says what it is of.
const NAME: &str = "features";
const SOURCE: &str = "source";

/// The features (`rows`, D) in the file, `None` if there is no file. Features of something else than `source` are an
/// error.
pub fn read(path: &Path, source: &str, rows: usize) -> Result<Option<Tensor>, EvalError> {
    let format = Format::of(path)?;
    if !path.exists() {
        return Ok(None);
    }
    let bytes = files::read(path)?;
    let features = match format {
        Format::Safetensors => read_safetensors(&bytes, source),
        Format::Npy => read_npy(&bytes),
    };
    let features = features.map_err(|reason| EvalError::file(path, reason))?;
    match *features.dims() {
        [found, _] if found == rows => Ok(Some(features)),
        _ => Err(EvalError::file(path, format!("its features are {:?}, needs ({rows}, any)", features.dims()))),
    }
}

/// Writes features (N, D) in f32.
pub fn write(path: &Path, features: &Tensor, source: &str) -> Result<(), EvalError> {
    let features = features.to_dtype(DType::F32)?.contiguous()?;
    let bytes = match Format::of(path)? {
        Format::Safetensors => {
            let metadata = HashMap::from([(SOURCE.to_string(), source.to_string())]);
            let bytes = safetensors::serialize([(NAME, &features)], Some(metadata));
            bytes.map_err(|error| EvalError::file(path, format!("cannot be written: {error}")))?
        }
        Format::Npy => {
            let (n, width) = features.dims2()?;
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {width}), }}");
            // The data start at a multiple of 64 bytes.
            let length = (MAGIC.len() + 2 + header.len() + 1).next_multiple_of(64) - MAGIC.len() - 2;
            let header = format!("{header:<width$}\n", width = length - 1);
            [MAGIC, &(length as u16).to_le_bytes(), header.as_bytes(), &features.data()].concat()
        }
    };
    Ok(files::write_atomic(path, &bytes)?)
}

enum Format {
    Safetensors,
    Npy,
}

impl Format {
    fn of(path: &Path) -> Result<Self, EvalError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("npy") => Ok(Self::Npy),
            _ => Err(EvalError::file(path, "features are kept in files named *.safetensors or *.npy")),
        }
    }
}

fn read_safetensors(bytes: &[u8], source: &str) -> Result<Tensor, String> {
    let broken = |error| format!("not a whole safetensors file ({error})");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let found = header.metadata().as_ref().and_then(|metadata| metadata.get(SOURCE)).map_or("unknown", String::as_str);
    if found != source {
        return Err(format!("holds other features; name another file\n  it holds: {found}\n  needed:   {source}"));
    }
    let file = SafeTensors::deserialize(bytes).map_err(broken)?;
    let view = file.tensor(NAME).map_err(|error| error.to_string())?;
    if view.dtype() != safetensors::Dtype::F32 {
        return Err(format!("its features are {:?}, not F32", view.dtype()));
    }
    candle_core::safetensors::Load::load(&view, &Device::Cpu).map_err(|error| error.to_string())
}

/// Starts a `.npy` file of version 1.
const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// A matrix of f32 or f64, row after row.
fn read_npy(bytes: &[u8]) -> Result<Tensor, String> {
    let unknown = || "not a .npy file of version 1 with a matrix of f32 or f64 in C order".to_string();
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(unknown)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(unknown)?;
    let (header, data) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or_else(unknown)?;
    let header: String = String::from_utf8_lossy(header).chars().filter(|c| !c.is_whitespace()).collect();
    let dtype = match header.contains("'descr':'<f4'") {
        true => DType::F32,
        false if header.contains("'descr':'<f8'") => DType::F64,
        false => return Err(unknown()),
    };
    let shape = header.split_once("'shape':(").and_then(|(_, rest)| rest.split_once(')')).ok_or_else(unknown)?.0;
    let sizes = shape.split(',').map(str::parse::<usize>).collect::<Result<Vec<_>, _>>().map_err(|_| unknown())?;
    let (true, &[n, width]) = (header.contains("'fortran_order':False"), sizes.as_slice()) else {
        return Err(unknown());
    };
    let size = n.checked_mul(width).and_then(|count| count.checked_mul(dtype.size_in_bytes()));
    if size != Some(data.len()) {
        return Err(format!("has {} bytes of numbers for a matrix of {n} x {width}: cut off?", data.len()));
    }
    Tensor::from_raw_buffer(data, dtype, &[n, width], &Device::Cpu).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_back_from_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        let features = Tensor::new(&[[1f32, -2.0, 3.5], [4.0, 5.0, 1e-30]], &Device::Cpu).unwrap();
        for name in ["a.safetensors", "a.npy"] {
            let path = folder.path().join(name);
            assert!(read(&path, "here", 2).unwrap().is_none());
            write(&path, &features, "here").unwrap();
            let found = read(&path, "here", 2).unwrap().unwrap();
            assert_eq!(found.to_vec2::<f32>().unwrap(), features.to_vec2::<f32>().unwrap());
            let error = read(&path, "here", 3).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("[2, 3]"), "{error}");
            // Cut off anywhere, it is an error.
            let whole = std::fs::read(&path).unwrap();
            for end in 0..whole.len() {
                std::fs::write(&path, &whole[..end]).unwrap();
                assert!(read(&path, "here", 2).is_err(), "{name} cut at {end}");
            }
        }
        let path = folder.path().join("b.safetensors");
        write(&path, &features, "there").unwrap();
        assert!(read(&path, "here", 2).unwrap_err().to_string().contains("other features"));
        assert!(read(&folder.path().join("c.txt"), "here", 2).is_err());
    }

    /// `numpy.save` of `[[1.5, -2.0]]` in f64, as NumPy 2 writes it.
    #[test]
    fn numpy_files_are_read() {
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }";
        let header = format!("{header:<117}\n");
        let numbers = [1.5f64, -2.0].map(f64::to_le_bytes).concat();
        let bytes = [MAGIC, &[118, 0], header.as_bytes(), &numbers].concat();
        assert_eq!(read_npy(&bytes).unwrap().to_vec2::<f64>().unwrap(), [[1.5, -2.0]]);
        for (from, to) in [("<f8", ">f8"), ("False", "True "), ("(1, 2)", "(9, 2)"), ("(1, 2)", "(2,)  ")] {
            let altered = header.replace(from, to);
            assert!(read_npy(&[MAGIC, &[118, 0], altered.as_bytes(), &numbers].concat()).is_err(), "{to}");
        }
    }
}
