//! The WebGPU device, native and in a browser alike.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// A WebGPU device and what happened to it. Clones are the same device.
#[derive(Debug, Clone)]
pub struct Gpu {
    instance: wgpu::Instance,
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    /// What the adapter offers, of which the device uses a part.
    offer: Arc<(wgpu::Limits, wgpu::Features)>,
    /// The optional features that may be used.
    features: wgpu::Features,
    incidents: Arc<Mutex<Incidents>>,
}

/// What WebGPU reported outside of any call of ours.
#[derive(Debug, Default)]
struct Incidents {
    lost: Option<String>,
    /// The first error since the last [`Gpu::check`].
    error: Option<Error>,
}

/// What is used where an adapter has it; nothing needs it.
const USEFUL_FEATURES: wgpu::Features =
    wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::SHADER_F16).union(wgpu::Features::SUBGROUP);

fn lock(incidents: &Mutex<Incidents>) -> MutexGuard<'_, Incidents> {
    incidents.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Asks for the fastest adapter, and for a device with the features that kernels and measurements make use of, as far as
    /// the adapter has them. Buffers may be as large as the adapter allows; all other limits are WebGPU's defaults.
    pub async fn new() -> Result<Self> {
        Self::with_features(USEFUL_FEATURES).await
    }

    /// Like [`Self::new`], with no other optional features than these, where the adapter has them.
    pub async fn with_features(features: wgpu::Features) -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&options).await;
        let adapter = adapter.map_err(|error| Error::NoAdapter(error.to_string()))?;
        let info = adapter.get_info();
        let offered = adapter.limits();
        let required_limits = wgpu::Limits {
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            ..wgpu::Limits::default()
        };
        let descriptor = wgpu::DeviceDescriptor {
            required_features: adapter.features() & features,
            required_limits,
            ..Default::default()
        };
        let device = adapter.request_device(&descriptor).await;
        let (device, queue) =
            device.map_err(|error| Error::NoDevice { adapter: info.name.clone(), reason: error.to_string() })?;
        let incidents = Arc::new(Mutex::new(Incidents::default()));
        watch(&device, &incidents);
        let offer = Arc::new((offered, adapter.features()));
        Ok(Self { instance, device, queue, info, offer, features, incidents })
    }

    /// A new device like this one, which was lost.
    pub async fn reopen(&self) -> Result<Self> {
        Self::with_features(self.features).await
    }

    /// The instance, which makes surfaces for canvases and windows.
    pub fn instance(&self) -> &wgpu::Instance {
        &self.instance
    }

    /// The device itself.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The device's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// The adapter as a person should see it. Browsers may hide the name.
    pub fn name(&self) -> &str {
        let names = [&self.info.name, &self.info.driver_info, &self.info.driver];
        names.into_iter().find(|name| !name.is_empty()).map_or("unnamed WebGPU adapter", |name| name)
    }

    /// Whether the adapter computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// Whether kernels may use f16 numbers.
    pub fn has_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    /// Whether kernels may add up over subgroups; never in a browser, where wgpu does not offer them.
    pub fn has_subgroups(&self) -> bool {
        self.device.features().contains(wgpu::Features::SUBGROUP)
    }

    /// The limits of the adapter that kernels may meet, by WebGPU's names.
    pub fn limits(&self) -> BTreeMap<String, u64> {
        let limits = &self.offer.0;
        let limits = [
            ("maxBufferSize", limits.max_buffer_size),
            ("maxStorageBufferBindingSize", limits.max_storage_buffer_binding_size),
            ("maxStorageBuffersPerShaderStage", limits.max_storage_buffers_per_shader_stage.into()),
            ("maxComputeInvocationsPerWorkgroup", limits.max_compute_invocations_per_workgroup.into()),
            ("maxComputeWorkgroupStorageSize", limits.max_compute_workgroup_storage_size.into()),
            ("maxComputeWorkgroupsPerDimension", limits.max_compute_workgroups_per_dimension.into()),
        ];
        limits.map(|(name, limit)| (name.to_string(), limit)).into()
    }

    /// The features that the adapter offers.
    pub fn features(&self) -> Vec<String> {
        self.offer.1.iter_names().map(|(name, _)| name.to_lowercase().replace('_', "-")).collect()
    }

    /// Whether single passes can be timed.
    pub fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Adapter and driver in all that is known of them.
    pub fn identity(&self) -> String {
        let wgpu::AdapterInfo { name, vendor, device, driver, driver_info, backend, .. } = &self.info;
        format!("{name}, {vendor:x}:{device:x}, {driver}, {driver_info}, {backend}")
    }

    /// Why the device was lost, if it was.
    pub fn lost(&self) -> Option<String> {
        lock(&self.incidents).lost.clone()
    }

    /// The loss of the device, or else the first error that WebGPU reported since the last check.
    pub fn check(&self) -> Result<()> {
        let mut incidents = lock(&self.incidents);
        if let Some(reason) = &incidents.lost {
            return Err(Error::DeviceLost(reason.clone()));
        }
        incidents.error.take().map_or(Ok(()), Err)
    }

    /// Waits until everything that was submitted is done, then checks for errors.
    pub async fn finish(&self) -> Result<()> {
        let (sender, receiver) = futures_channel::oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            // Nobody waits any more if the receiver is gone.
            sender.send(()).unwrap_or_default();
        });
        self.poll()?;
        receiver.await.map_err(|_| Error::DeviceLost(self.lost().unwrap_or_default()))?;
        self.check()
    }

    /// Waits for what was submitted and reads a part of a buffer; `what` is its name in errors.
    pub(crate) async fn read(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64, what: &str) -> Result<Vec<u8>> {
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);

        let (sender, receiver) = futures_channel::oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |mapped| {
            // Nobody waits any more if the receiver is gone.
            sender.send(mapped).unwrap_or_default();
        });
        self.poll()?;
        let mapped = receiver.await;
        // A cause that WebGPU reported says more than that the mapping failed.
        self.check()?;
        let failed = |reason: String| Error::WebGpu(format!("{what} cannot be read: {reason}"));
        mapped.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|error| failed(error.to_string()))?;
        Ok(view.to_vec())
    }

    /// Native devices make progress when polled; a browser needs no help.
    pub(crate) fn poll(&self) -> Result<()> {
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        polled.map(drop).map_err(|error| Error::WebGpu(error.to_string()))
    }
}

/// Writes down losses and errors; without a handler of our own, wgpu panics.
fn watch(device: &wgpu::Device, incidents: &Arc<Mutex<Incidents>>) {
    let errors = incidents.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        lock(&errors).error.get_or_insert(error.into());
    }));
    let losses = incidents.clone();
    device.set_device_lost_callback(move |reason, message| {
        lock(&losses).lost = Some(format!("{reason:?}: {message}"));
    });
}
