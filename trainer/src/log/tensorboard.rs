//! TensorBoard's event files: protocol buffer messages, each between its length and checksums (TFRecord).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prost::Message;

use super::LogError;
use crate::files;

/// As in TensorFlow's `event.proto` and `summary.proto`, the fields that are used here.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    /// In the first event of a file.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    scalar: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// 3 is RGB.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    /// A PNG file.
    #[prost(bytes = "vec", tag = "4")]
    encoded: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// [`SessionLog`]'s status at the start of a session: earlier files' events of this step and later ones are void.
const START: i32 = 1;

/// How the names of event files begin: TensorBoard looks for this.
pub const NAME: &str = "events.out.tfevents.";

/// The event file of one session.
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Starts a file in `folder` for a session that goes on after `step`.
    pub fn create(folder: &Path, step: u64) -> Result<Self, LogError> {
        files::create_folder(folder)?;
        let name = format!("{NAME}{}.lddgan.{}", now().as_micros(), std::process::id());
        let path = folder.join(name);
        let file = File::create_new(&path).map_err(|error| LogError::other(&path, error))?;
        let mut events = Self { path, file };
        events.write(Event { file_version: Some("brain.Event:2".to_string()), ..event(0) })?;
        events.write(Event { session: Some(SessionLog { status: START }), ..event(step + 1) })?;
        Ok(events)
    }

    pub fn scalars(&mut self, step: u64, values: &BTreeMap<String, f64>) -> Result<(), LogError> {
        let value =
            |(tag, &value): (&String, &f64)| Value { tag: tag.clone(), scalar: Some(value as f32), image: None };
        self.summary(step, values.iter().map(value).collect())
    }

    /// A PNG file of this width and height.
    pub fn image(&mut self, step: u64, tag: &str, (width, height): (u32, u32), png: &[u8]) -> Result<(), LogError> {
        let image = Image { height: height as i32, width: width as i32, colorspace: 3, encoded: png.to_vec() };
        self.summary(step, vec![Value { tag: tag.to_string(), scalar: None, image: Some(image) }])
    }

    fn summary(&mut self, step: u64, values: Vec<Value>) -> Result<(), LogError> {
        self.write(Event { summary: Some(Summary { values }), ..event(step) })
    }

    fn write(&mut self, event: Event) -> Result<(), LogError> {
        let fail = |error| LogError::other(&self.path, format!("cannot be written: {error}"));
        self.file.write_all(&record(&event.encode_to_vec())).map_err(fail)
    }
}

fn event(step: u64) -> Event {
    Event { wall_time: now().as_secs_f64(), step: step as i64, ..Default::default() }
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Length, its checksum, data, their checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), data, &masked_crc(data)].concat()
}

/// CRC-32C, masked as TFRecord has it: checksums of data that hold checksums would be weak.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}
