//! Images in a Parquet file laid out as image data sets usually are: a struct column `image` (or `img`) with the fields
//! `bytes` (the encoded file) and `path` (its name).

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::DataError;
use super::source::{Content, Sink, Stop};

const COLUMNS: [&str; 2] = ["image", "img"];
/// Rows in memory at a time.
const ROWS: usize = 64;

fn open(path: &Path) -> Result<SerializedFileReader<File>, DataError> {
    let file = File::open(path).map_err(|error| DataError::source(path, error))?;
    SerializedFileReader::new(file)
        .map_err(|error| DataError::source(path, format!("no readable Parquet file ({error})")))
}

/// How many rows the file has.
pub(super) fn count(path: &Path) -> Result<usize, DataError> {
    let rows = open(path)?.metadata().file_metadata().num_rows();
    usize::try_from(rows).map_err(|error| DataError::source(path, error))
}

/// Every image of the file, in its order.
pub(super) fn read(path: &Path, sink: &Sink) -> Result<(), Stop> {
    let fail = |error: &dyn std::fmt::Display| DataError::source(path, error);
    let reader = open(path)?;
    let column = image_column(reader.metadata().file_metadata().schema())
        .ok_or_else(|| fail(&"has no struct column `image` with the fields `bytes` and `path`"))?;
    let rows = RowIter::from_file(Some(column), &reader).map_err(|error| fail(&error))?;
    for (number, row) in rows.with_batch_size(ROWS).enumerate() {
        let row = row.map_err(|error| fail(&format!("row {number}: {error}")))?;
        let (name, content) = image(&row);
        sink.push(&name.unwrap_or_else(|| format!("row {number}")), content)?;
    }
    Ok(())
}

/// The schema of the image column alone, so that no other is read.
fn image_column(schema: &Type) -> Option<Type> {
    let is_image = |field: &Type| {
        let has_bytes = |field: &Type| field.is_group() && field.get_fields().iter().any(|f| f.name() == "bytes");
        COLUMNS.contains(&field.name()) && has_bytes(field)
    };
    let column = schema.get_fields().iter().find(|field| is_image(field))?;
    Type::group_type_builder(schema.name()).with_fields(vec![column.clone()]).build().ok()
}

/// Name and content of the only column of a row.
fn image(row: &Row) -> (Option<String>, Content) {
    let no_bytes = || Content::Unreadable("the row holds no bytes".to_string());
    let Some((_, Field::Group(image))) = row.get_column_iter().next() else { return (None, no_bytes()) };
    let field = |wanted: &str| image.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| field);
    let name = match field("path") {
        Some(Field::Str(name)) => Some(name.clone()),
        _ => None,
    };
    match field("bytes") {
        Some(Field::Bytes(bytes)) => (name, Content::Encoded(bytes.data().to_vec())),
        _ => (name, no_bytes()),
    }
}
