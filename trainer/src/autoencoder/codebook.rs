//! The codebook under training.

use candle_core::{DType, Tensor, Var};
use lddgan::Result;
use lddgan::backend::nearest_codes;
use lddgan::noise::Stream;
use lddgan::parameters::{Parameters, TensorMap};

use super::kmeans;
use crate::distributed::Processes;

/// Latent vectors that the codebook is fitted on.
const KMEANS_POINTS: usize = 40_000;

/// A decoder's codebook, and how long each of its codes has not been used.
pub struct Codebook {
    codes: Var,
    /// Steps since each code was the nearest to any latent vector.
    idle: Vec<u32>,
    restart_after: Option<u32>,
}

/// The vectors of a latent (N, C, h, w), (N h w, C).
fn vectors(latent: &Tensor) -> Result<Tensor> {
    let channels = latent.dim(1)?;
    Ok(latent.detach().permute((0, 2, 3, 1))?.contiguous()?.reshape(((), channels))?)
}

impl Codebook {
    /// The codebook of the decoder, if it has one. Codes that were of no use for `restart_after` steps are replaced.
    pub fn new(parameters: &Parameters, restart_after: Option<u32>) -> Result<Option<Self>> {
        let Some(codes) = parameters.var("decoder.codebook") else { return Ok(None) };
        let idle = vec![0; codes.dim(0)?];
        Ok(Some(Self { codes, idle, restart_after }))
    }

    /// Fits the codes to the vectors of `latents` by k-means.
    pub fn fit(&self, latents: &Tensor, seed: u64) -> Result<()> {
        let points = vectors(latents)?;
        let stride = points.dim(0)?.div_ceil(KMEANS_POINTS);
        let chosen: Vec<u32> = (0..points.dim(0)? as u32).step_by(stride).collect();
        let chosen = Tensor::from_vec(chosen.clone(), chosen.len(), points.device())?;
        let centres = kmeans::centres(&points.index_select(&chosen, 0)?, self.codes.dim(0)?, seed)?;
        Ok(self.codes.set(&centres.to_device(self.codes.device())?)?)
    }

    /// The nearest codes, through which gradients pass straight to the latent, and the loss that draws codes to
    /// latents and, `commitment` times as strongly, latents to codes.
    pub fn quantize(&mut self, latent: &Tensor, commitment: f64, processes: &Processes) -> Result<(Tensor, Tensor)> {
        let (n, c, h, w) = latent.dims4()?;
        let indices = nearest_codes(latent, &self.codes)?;
        self.note_use(&indices, processes)?;
        let codes = self.codes.index_select(&indices, 0)?;
        let codes = codes.reshape((n, h, w, c))?.permute((0, 3, 1, 2))?.contiguous()?;
        let quantized = (latent + (&codes - latent)?.detach())?;
        let to_code = (latent - codes.detach())?.sqr()?.mean_all()?;
        let to_latent = (&codes - latent.detach())?.sqr()?.mean_all()?;
        Ok((quantized, (to_latent + (to_code * commitment)?)?))
    }

    /// Counts the use in all processes.
    fn note_use(&mut self, indices: &Tensor, processes: &Processes) -> Result<()> {
        let mut used = vec![0f64; self.idle.len()];
        for index in indices.to_vec1::<u32>()? {
            used[index as usize] = 1.0;
        }
        processes.average(&mut used.iter_mut().collect::<Vec<_>>())?;
        for (idle, used) in self.idle.iter_mut().zip(used) {
            *idle = if used > 0.0 { 0 } else { idle.saturating_add(1) };
        }
        Ok(())
    }

    /// Replaces codes that were idle for too long by random vectors of this step's latents, those of all processes.
    pub fn restart(&mut self, latent: &Tensor, seed: u64, number: u64, processes: &Processes) -> Result<()> {
        let Some(limit) = self.restart_after else { return Ok(()) };
        let dead: Vec<usize> = (0..self.idle.len()).filter(|&code| self.idle[code] >= limit).collect();
        if dead.is_empty() {
            return Ok(());
        }
        let samples = latent.detach().flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let (count, pixels, _) = samples.dims3()?;
        let mut stream = Stream::new(seed, number, "codebook");
        let places: Vec<usize> =
            dead.iter().map(|_| stream.below((count * processes.size() * pixels) as u32) as usize).collect();
        let samples = processes.rows(&samples, &places.iter().map(|place| place / pixels).collect::<Vec<_>>())?;
        let mut codes = self.codes.as_tensor().detach().to_vec2::<f32>()?;
        for (i, (code, place)) in dead.into_iter().zip(places).enumerate() {
            codes[code] = samples.get(i)?.get(place % pixels)?.to_vec1()?;
            self.idle[code] = 0;
        }
        Ok(self.codes.set(&Tensor::new(codes, self.codes.device())?)?)
    }

    /// What is needed to go on, beside the codes themselves.
    pub fn state(&self) -> Result<TensorMap> {
        let idle = Tensor::new(self.idle.as_slice(), &candle_core::Device::Cpu)?;
        Ok([("idle".to_string(), idle)].into())
    }

    /// Takes up a saved state; of a run without one, all codes count as just used.
    pub fn load(&mut self, state: &TensorMap) -> Result<()> {
        if let Some(idle) = state.get("idle").filter(|idle| idle.dims() == [self.idle.len()]) {
            self.idle = idle.to_dtype(DType::U32)?.to_vec1()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use candle_nn::Init;

    fn codebook(codes: [[f32; 2]; 3], restart_after: Option<u32>) -> Codebook {
        let parameters = Parameters::new(0, &Device::Cpu);
        parameters.var_builder().get_with_hints((3, 2), "decoder.codebook", Init::Const(0.0)).unwrap();
        let codebook = Codebook::new(&parameters, restart_after).unwrap().unwrap();
        codebook.codes.set(&Tensor::new(&codes, &Device::Cpu).unwrap()).unwrap();
        codebook
    }

    /// Two pixels, near the codes 0 and 2, at distances worked out by hand.
    #[test]
    fn quantises_with_a_straight_through_gradient() {
        let mut codebook = codebook([[0.0, 0.0], [9.0, 9.0], [4.0, 2.0]], None);
        let latent = Var::new(&[[[[1f32, 4.0]], [[0.0, 4.0]]]], &Device::Cpu).unwrap();
        let (quantized, loss) = codebook.quantize(&latent, 0.25, &Processes::alone()).unwrap();
        assert_eq!(quantized.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0.0, 4.0, 0.0, 2.0]);
        // The squared distances 1, 0, 0, 4 have the mean 1.25.
        assert!((loss.to_scalar::<f32>().unwrap() - 1.25 * 1.25).abs() < 1e-6);
        let gradients = quantized.sum_all().unwrap().backward().unwrap();
        let gradient = gradients.get(&latent).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(gradient, [1.0; 4]);
        assert_eq!(codebook.idle, [0, 1, 0]);
    }

    /// The code that nothing is near to becomes a vector of the latent after three steps, not before, and a run that
    /// goes on from a saved state does the same.
    #[test]
    fn idle_codes_restart() {
        let latent = Tensor::new(&[[[[1f32, 4.0]], [[0.0, 4.0]]]], &Device::Cpu).unwrap();
        let mut codebook = codebook([[0.0, 0.0], [9.0, 9.0], [4.0, 2.0]], Some(3));
        let unused = |codebook: &Codebook| codebook.codes.get(1).unwrap().to_vec1::<f32>().unwrap();
        for number in 0..3 {
            assert_eq!(unused(&codebook), [9.0, 9.0], "step {number}");
            let saved = codebook.state().unwrap();
            codebook.idle = vec![7; 3];
            codebook.load(&saved).unwrap();
            codebook.quantize(&latent, 0.25, &Processes::alone()).unwrap();
            codebook.restart(&latent, 0, number, &Processes::alone()).unwrap();
        }
        let code = unused(&codebook);
        assert!(code == [1.0, 0.0] || code == [4.0, 4.0], "{code:?}");
    }
}
