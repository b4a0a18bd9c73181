//! Images in a Parquet file laid out as image data sets usually are: a struct column `image` with the fields
//! `bytes` (the encoded file) and `path` (its name).

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::{DataError, Encoded};

/// Every image of the file, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<Encoded>, DataError> {
    let fail = |error: &dyn std::fmt::Display| DataError::source(path, error);
    let file = File::open(path).map_err(|error| fail(&error))?;
    let reader = SerializedFileReader::new(file)
        .map_err(|error| fail(&format!("neither a folder nor a Parquet file ({error})")))?;
    let rows = reader.get_row_iter(None).map_err(|error| fail(&error))?;
    let mut images = Vec::new();
    for (number, row) in rows.enumerate() {
        let row = row.map_err(|error| fail(&format!("row {number}: {error}")))?;
        let image = row.get_column_iter().find(|(name, _)| *name == "image").map(|(_, field)| field);
        let Some(Field::Group(image)) = image else {
            return Err(fail(&"has no struct column `image` with the fields `bytes` and `path`"));
        };
        let field = |wanted: &str| image.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| field);
        let name = match field("path") {
            Some(Field::Str(name)) => name.clone(),
            _ => format!("row {number}"),
        };
        match field("bytes") {
            Some(Field::Bytes(bytes)) => images.push(Encoded { name, bytes: bytes.data().to_vec() }),
            _ => return Err(fail(&format!("row {number}: `image.bytes` holds no bytes"))),
        }
    }
    Ok(images)
}
