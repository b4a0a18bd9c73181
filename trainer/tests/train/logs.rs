//! What `lddgan train` logs: lines of JSON, TensorBoard's event files, pictures.

use std::path::Path;

use crate::common::succeed;
use crate::folder::{AUTOENCODER, Folder};
use crate::run_folder::{losses, names};

/// A TensorBoard event file, taken apart without the library that wrote it: the step and the message of every record.
fn events(path: &Path) -> Vec<(u64, Message)> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<8>().unwrap();
        let (sum, after) = after.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*sum), masked_crc(length));
        let (data, after) = after.split_at(u64::from_le_bytes(*length) as usize);
        let (sum, after) = after.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*sum), masked_crc(data));
        rest = after;
        let event = message(data);
        let step = event.iter().find(|(field, _)| *field == 2).map_or(0, |(_, step)| step.number());
        events.push((step, event));
    }
    events
}

/// CRC-32C bit by bit, masked as the TFRecord format has it.
fn masked_crc(data: &[u8]) -> u32 {
    let byte =
        |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)));
    let crc = !data.iter().fold(!0, byte);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The fields of a protocol buffer message.
type Message = Vec<(u64, Field)>;

#[derive(Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Field {
    fn number(&self) -> u64 {
        if let Self::Number(number) = self { *number } else { panic!("{self:?}") }
    }

    fn bytes(&self) -> &[u8] {
        if let Self::Bytes(bytes) = self { bytes } else { panic!("{self:?}") }
    }
}

fn message(mut bytes: &[u8]) -> Message {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(bytes, 1)[0];
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            5 => Field::Number(u64::from(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()))),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length).to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

#[test]
fn every_step_is_logged_once() {
    assert_eq!(masked_crc(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &["--images", "8"]));
    succeed(&folder.train("autoencoder", "ae", &["--resume"]));
    let run = folder.path("ae");
    let lines = losses(&run);
    let steps: Vec<_> =
        lines.iter().map(|line| (line["step"].as_u64().unwrap(), line["images"].as_u64().unwrap())).collect();
    assert_eq!(steps, [(0, 0), (1, 4), (2, 8), (3, 12), (4, 16)]);

    // An event file for each session, with the same numbers.
    let files: Vec<_> =
        names(&run.join("tensorboard")).iter().map(|name| events(&run.join("tensorboard").join(name))).collect();
    assert_eq!(files.len(), 2);
    let (mut scalars, mut pictures) = (Vec::new(), Vec::new());
    for (step, event) in files.iter().flatten() {
        let summaries = event.iter().filter(|(field, _)| *field == 5);
        for (_, value) in summaries.flat_map(|(_, summary)| message(summary.bytes())) {
            let value = message(value.bytes());
            let get = |number: u64| value.iter().find(|(field, _)| *field == number).map(|(_, field)| field);
            let tag = String::from_utf8(get(1).unwrap().bytes().to_vec()).unwrap();
            match get(4) {
                Some(image) => pictures.push((*step, message(image.bytes()))),
                None => scalars.push((*step, tag, f32::from_bits(get(2).unwrap().number() as u32))),
            }
        }
    }
    let l1: Vec<_> = scalars.iter().filter(|(_, tag, _)| tag == "l1").map(|(step, _, value)| (*step, *value)).collect();
    let expected = |line: &serde_json::Value| Some((line["step"].as_u64()?, line["l1"].as_f64()? as f32));
    assert_eq!(l1, lines.iter().filter_map(expected).collect::<Vec<_>>());
    assert!(scalars.iter().any(|(_, tag, value)| tag == "gradient_norm/autoencoder" && *value > 0.0));
    assert_eq!(pictures.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 2, 4]);
    let (_, last) = pictures.last().unwrap();
    let png = last.iter().find(|(field, _)| *field == 4).unwrap().1.bytes();
    assert_eq!(png, std::fs::read(run.join("grid-00000016.png")).unwrap());
    assert!(image::open(run.join("curves.png")).unwrap().width() > 1000);
}

/// Nothing that only tells of a run ends it.
#[test]
fn a_log_that_cannot_be_written_is_reported() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("ae/losses.jsonl/taken")).unwrap();
    std::fs::create_dir_all(folder.path("ae/curves.png/taken")).unwrap();
    std::fs::write(folder.path("ae/tensorboard"), b"taken").unwrap();
    let said = succeed(&folder.train("autoencoder", "ae", &[]));
    for name in ["losses.jsonl", "curves.png", "tensorboard"] {
        assert!(said.lines().any(|line| line.starts_with("warning") && line.contains(name)), "{name}: {said}");
    }
    assert!(folder.path("ae").join(AUTOENCODER).exists());
}
