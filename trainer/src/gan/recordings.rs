//! What is computed again and again on a CUDA device with other numbers in tensors of the same shapes: recorded, and
//! replayed as one launch.

use std::collections::BTreeMap;

use crate::warn;
use candle_core::{Device, Tensor};
use lddgan::{KeptParameters, Replay, Result};

/// How often something is computed before it is recorded: by then libraries have what they need, and know what to choose.
const BEFORE: u32 = 2;

/// Computations by their numbers.
#[derive(Default)]
pub struct Recordings {
    kept: BTreeMap<usize, Kept>,
    /// Something could not be recorded.
    failed: bool,
}

struct Kept {
    /// The memory that inputs are copied to.
    inputs: [Tensor; 7],
    runs: u32,
    /// The last result of a computation that was not replayed.
    result: Option<Tensor>,
    /// What is replayed, and where its result is.
    recorded: Option<(Replay, Tensor)>,
}

impl Recordings {
    /// The result of the computation called `number` with these inputs. It is done by `compute` the first times, which must
    /// neither copy anything from or to the device nor leave anything behind that was not there before.
    pub fn run(
        &mut self,
        number: usize,
        device: &Device,
        inputs: [Tensor; 7],
        mut compute: impl FnMut(&[Tensor; 7]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let same_shapes =
            |kept: &Kept| kept.inputs.iter().zip(&inputs).all(|(kept, input)| kept.shape() == input.shape());
        if self.failed || self.kept.get(&number).is_some_and(|kept| !same_shapes(kept)) {
            return compute(&inputs);
        }
        let kept = match self.kept.entry(number) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Kept::new(&inputs)?),
        };
        for (place, input) in kept.inputs.iter().zip(&inputs) {
            place.slice_set(&input.contiguous()?, 0, 0)?;
        }
        let _parameters = KeptParameters::on(device);
        if kept.recorded.is_none() {
            if kept.runs < BEFORE {
                let result = compute(&kept.inputs)?;
                kept.runs += 1;
                kept.result = Some(result.clone());
                return Ok(result);
            }
            if let Err(error) = kept.record(device, &mut compute) {
                warn!("warning: a step cannot be recorded ({error}); it goes on more slowly");
                self.failed = true;
                return compute(&inputs);
            }
        }
        let Some((replay, result)) = &kept.recorded else { return compute(&inputs) };
        replay.run()?;
        Ok(result.clone())
    }
}

impl Kept {
    fn new(inputs: &[Tensor; 7]) -> Result<Self> {
        let mut places = inputs.clone();
        for place in &mut places {
            *place = place.zeros_like()?;
        }
        Ok(Self { inputs: places, runs: 0, result: None, recorded: None })
    }

    fn record(&mut self, device: &Device, compute: &mut impl FnMut(&[Tensor; 7]) -> Result<Tensor>) -> Result<()> {
        let Some(result) = self.result.take() else { return Ok(()) };
        let replay = Replay::record(device, || {
            let numbers = compute(&self.inputs).map_err(candle_core::Error::wrap)?;
            result.slice_set(&numbers, 0, 0)
        })?;
        self.recorded = Some((replay, result));
        Ok(())
    }
}
