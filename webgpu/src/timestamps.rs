//! How long compute passes take on the GPU itself, by timestamp queries.

use crate::error::{Error, Result};
use crate::gpu::Gpu;

/// WebGPU allows 4096 queries in a set; a pass needs two.
const PASSES_PER_SET: usize = 2048;

/// Submits passes that `encode` fills, by their numbers, and waits; the seconds of each.
pub async fn time_passes(
    gpu: &Gpu,
    passes: usize,
    mut encode: impl FnMut(usize, &mut wgpu::ComputePass),
) -> Result<Vec<f64>> {
    if !gpu.has_timestamps() {
        return Err(Error::NoTimestamps(gpu.name().to_string()));
    }
    let mut seconds = Vec::with_capacity(passes);
    for first in (0..passes).step_by(PASSES_PER_SET) {
        let set = first..passes.min(first + PASSES_PER_SET);
        seconds.extend(time_set(gpu, set, &mut encode).await?);
    }
    Ok(seconds)
}

async fn time_set(
    gpu: &Gpu,
    passes: std::ops::Range<usize>,
    encode: &mut impl FnMut(usize, &mut wgpu::ComputePass),
) -> Result<Vec<f64>> {
    let count = 2 * passes.len() as u32;
    let query_set = gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
        label: Some("timestamps"),
        ty: wgpu::QueryType::Timestamp,
        count,
    });
    let bytes = u64::from(count) * 8;
    let resolved = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("timestamps"),
        size: bytes,
        usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    for (begin, i) in (0..).step_by(2).zip(passes) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &query_set,
                beginning_of_pass_write_index: Some(begin),
                end_of_pass_write_index: Some(begin + 1),
            }),
        });
        encode(i, &mut pass);
    }
    encoder.resolve_query_set(&query_set, 0..count, &resolved, 0);
    gpu.queue().submit([encoder.finish()]);
    let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&gpu.read(&resolved, 0, bytes, "timestamps").await?);
    let period = f64::from(gpu.queue().get_timestamp_period()) * 1e-9;
    Ok(ticks.as_chunks().0.iter().map(|[begin, end]| end.saturating_sub(*begin) as f64 * period).collect())
}
