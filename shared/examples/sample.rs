//! Makes the face of a seed from a model file: `cargo run --release --example sample MODEL.safetensors SEED FACE.ppm`

use std::error::Error;

use candle_core::Device;
use lddgan::ModelFile;
use lddgan::model::to_byte;

fn main() -> Result<(), Box<dyn Error>> {
    let [path, seed, out] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("needs a model file, a seed and a file to write".into());
    };
    let model = ModelFile::from_bytes(&std::fs::read(path)?, path)?.model(path, &Device::Cpu)?;
    let image = model.sample_seeds(&[seed.parse::<u64>()?], &Device::Cpu)?.image.squeeze(0)?;
    let (_, height, width) = image.dims3()?;
    let pixels = image.permute((1, 2, 0))?.flatten_all()?.to_vec1::<f32>()?;
    let mut file = format!("P6 {width} {height} 255\n").into_bytes();
    file.extend(pixels.into_iter().map(to_byte));
    Ok(std::fs::write(out, file)?)
}
