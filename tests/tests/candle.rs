//! The whole model under Candle: it runs, and its file can be written and read.

use candle_core::{DType, Device};
use lddgan::ModelFile;
use lddgan_tests::{random_model_file, tiny_config};

#[test]
fn a_model_survives_its_file() {
    let file = random_model_file(&tiny_config(), 1).unwrap();
    let bytes = file.to_bytes(DType::F16).unwrap();
    let read = ModelFile::from_bytes(&bytes, "tiny").unwrap();
    let sample = |file: &ModelFile| {
        let model = file.model("tiny", &Device::Cpu).unwrap();
        let image = model.sample_seeds(&[3, 4], &Device::Cpu).unwrap().image;
        assert_eq!(image.dims(), [2, 3, 16, 16]);
        image.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let image = sample(&file);
    assert_eq!(image, sample(&read));
    assert!(image.iter().all(|value| value.is_finite()));
    assert!(image.iter().any(|value| value.abs() > 0.05));
}
