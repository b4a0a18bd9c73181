//! Images in a column of a Parquet file: encoded files as plain bytes or, as image data sets usually have them, in a
//! struct with the fields `bytes` and `path`.

mod checked;
mod format;
mod thrift;

use std::fs::File;
use std::path::PathBuf;

use checked::Checked;
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};

use super::DataError;
use super::reader::{Content, Reader, Sink, Stop};

/// Names that decide where several columns could hold images, the first before the others.
const COLUMNS: [&str; 7] = ["image", "img", "jpg", "jpeg", "png", "webp", "bytes"];
/// Rows in memory at a time.
const ROWS: usize = 64;

#[derive(Debug)]
pub(super) struct Parquet {
    pub path: PathBuf,
    /// The name of the column, where it was chosen.
    pub column: Option<String>,
}

impl Parquet {
    fn open(&self) -> Result<SerializedFileReader<Checked>, DataError> {
        let file = File::open(&self.path).map_err(|error| self.fail(error))?;
        let reader = Checked::new(file).and_then(SerializedFileReader::new);
        reader.map_err(|error| self.fail(format!("not a readable Parquet file ({error})")))
    }

    fn fail(&self, reason: impl ToString) -> DataError {
        DataError::source(&self.path, reason)
    }

    /// The schema of the image column alone, so that no other is read.
    fn image_column(&self, schema: &Type) -> Result<Type, DataError> {
        let column = match &self.column {
            Some(name) => named_column(schema, name),
            None => only_column(schema),
        };
        let column = column.map_err(|reason| self.fail(reason))?;
        let only = Type::group_type_builder(schema.name()).with_fields(vec![column.clone()]).build();
        only.map_err(|error| self.fail(error))
    }
}

impl Reader for Parquet {
    fn count(&self) -> Result<usize, DataError> {
        let rows = self.open()?.metadata().file_metadata().num_rows();
        usize::try_from(rows).map_err(|error| self.fail(error))
    }

    fn read(&self, sink: &Sink) -> Result<(), Stop> {
        let reader = self.open()?;
        let column = self.image_column(reader.metadata().file_metadata().schema())?;
        let rows = RowIter::from_file(Some(column), &reader).map_err(|error| self.fail(error))?;
        for (number, row) in rows.with_batch_size(ROWS).enumerate() {
            let row = row.map_err(|error| self.fail(format!("row {number}: {error}")))?;
            let (name, content) = image(row);
            sink.image(&name.unwrap_or_else(|| format!("row {number}")), content)?;
        }
        Ok(())
    }
}

fn named_column<'a>(schema: &'a Type, name: &str) -> Result<&'a TypePtr, String> {
    let column = schema.get_fields().iter().find(|field| field.name() == name);
    let column = column.ok_or_else(|| format!("has no column `{name}`; it has {}", columns(schema.get_fields())))?;
    if !is_bytes(column) && !has_bytes(column) {
        return Err(format!("column `{name}` holds neither bytes nor a struct with a field `bytes`"));
    }
    Ok(column)
}

/// The column that can hold images by its type: a struct with bytes rather than plain bytes, and of several the one with
/// the name of images.
fn only_column(schema: &Type) -> Result<&TypePtr, String> {
    let of_type =
        |wanted: fn(&Type) -> bool| -> Vec<_> { schema.get_fields().iter().filter(|field| wanted(field)).collect() };
    let structs = of_type(has_bytes);
    let candidates = if structs.is_empty() { of_type(is_bytes) } else { structs };
    let by_name = |name: &&str| candidates.iter().find(|field| field.name().eq_ignore_ascii_case(name)).copied();
    match candidates[..] {
        [] => Err(format!(
            "has no column of images, which are bytes or a struct with a field `bytes`; it has {}",
            columns(schema.get_fields())
        )),
        [only] => Ok(only),
        _ => COLUMNS.iter().find_map(by_name).ok_or_else(|| {
            format!("several columns could hold the images, choose one with --column: {}", columns(candidates))
        }),
    }
}

fn columns<'a>(fields: impl IntoIterator<Item = &'a TypePtr>) -> String {
    fields.into_iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ")
}

/// Bytes that are no text, JSON or number.
fn is_bytes(field: &Type) -> bool {
    let plain = field.get_basic_info().converted_type() == ConvertedType::NONE
        && matches!(field.get_basic_info().logical_type_ref(), None | Some(LogicalType::Unknown));
    field.is_primitive() && field.get_physical_type() == Physical::BYTE_ARRAY && plain
}

fn has_bytes(field: &Type) -> bool {
    let is_struct = field.is_group() && field.get_basic_info().converted_type() == ConvertedType::NONE;
    is_struct && field.get_fields().iter().any(|field| field.name() == "bytes" && is_bytes(field))
}

/// Name and content of the only column of a row.
fn image(row: Row) -> (Option<String>, Content) {
    let no_bytes = || Content::Unreadable("the row holds no bytes".to_string());
    match row.into_columns().into_iter().next() {
        Some((_, Field::Bytes(bytes))) => (None, Content::Encoded(bytes.data().to_vec())),
        Some((_, Field::Group(image))) => {
            let field =
                |wanted: &str| image.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| field);
            let name = match field("path") {
                Some(Field::Str(name)) => Some(name.clone()),
                _ => None,
            };
            match field("bytes") {
                Some(Field::Bytes(bytes)) => (name, Content::Encoded(bytes.data().to_vec())),
                _ => (name, no_bytes()),
            }
        }
        _ => (None, no_bytes()),
    }
}
