//! The worker: downloads the model and makes faces, so that the page stays responsive.

mod adapter;
mod download;
mod sampler;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Array, Promise, Uint8ClampedArray};
use lddgan::ModelFile;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{DedicatedWorkerGlobalScope, MessageEvent};

use super::describe;
use super::protocol::{Reply, Request, pack, unpack};
use super::settings::ExecutorChoice;
use sampler::Sampler;

/// Listens to the window.
pub fn start(scope: DedicatedWorkerGlobalScope) -> Result<(), JsValue> {
    let panicked = |info: &std::panic::PanicHookInfo| {
        let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
        send(&scope, &Reply::Failed(format!("The program has an error: {info}.")), None);
    };
    std::panic::set_hook(Box::new(panicked));
    let worker = Rc::new(Worker { scope: scope.clone(), sampler: None.into(), next: None.into(), busy: false.into() });
    let on_message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
        let worker = worker.clone();
        spawn_local(async move {
            if let Err(reason) = worker.receive(event.data()).await {
                send(&worker.scope, &Reply::Failed(reason), None);
            }
        });
    });
    scope.set_onmessage(Some(on_message.into_js_value().unchecked_ref()));
    send(&scope, &Reply::Started, None);
    Ok(())
}

struct Worker {
    scope: DedicatedWorkerGlobalScope,
    /// There from [`Reply::Ready`] on, but while [`Worker::make`] has it.
    sampler: RefCell<Option<Sampler>>,
    /// What to make next; a newer request replaces an older one.
    next: RefCell<Option<Faces>>,
    busy: Cell<bool>,
}

struct Faces {
    run: u32,
    seeds: Vec<u64>,
}

impl Worker {
    async fn receive(&self, message: JsValue) -> Result<(), String> {
        match unpack(message)?.0 {
            Request::Load { url, executor } => self.load(&url, executor).await,
            Request::Make { run, seeds } => {
                self.next.replace(Some(Faces { run, seeds }));
                if self.busy.replace(true) {
                    return Ok(());
                }
                let made = self.make_all().await;
                self.busy.set(false);
                made
            }
        }
    }

    async fn load(&self, url: &str, choice: ExecutorChoice) -> Result<(), String> {
        let file = url.rsplit('/').next().unwrap_or(url);
        let progress = |bytes, total| self.send(&Reply::Downloading { bytes, total });
        let bytes = download::download(&self.scope, url, file, progress).await?;
        self.send(&Reply::Preparing);
        let model = ModelFile::from_bytes(&bytes, file).and_then(|read| read.model(file, &candle_core::Device::Cpu));
        drop(bytes);
        let model = model.map_err(|error| format!("The model cannot be used: {error}."))?;
        let image_size = model.config.autoencoder.image_size;
        let sampler = Sampler::new(model, choice).await;
        self.send(&Reply::Executor(sampler.info()));
        self.sampler.replace(Some(sampler));
        self.send(&Reply::Ready { image_size });
        Ok(())
    }

    /// Makes what is asked for, until nothing is.
    async fn make_all(&self) -> Result<(), String> {
        let mut sampler = self.sampler.take().ok_or("The page asked for faces before the model was there.")?;
        while let Some(faces) = self.next.take() {
            self.make(&mut sampler, &faces).await?;
        }
        self.sampler.replace(Some(sampler));
        Ok(())
    }

    /// Makes faces until they are done or others are asked for.
    async fn make(&self, sampler: &mut Sampler, faces: &Faces) -> Result<(), String> {
        let mut milliseconds = 0.0;
        let mut index = 0;
        while index < faces.seeds.len() {
            let rest = &faces.seeds[index..];
            let seeds = &rest[..sampler.batch().min(rest.len())];
            let Some(batch) = sampler.sample(seeds).await? else {
                self.send(&Reply::Executor(sampler.info()));
                continue;
            };
            milliseconds += batch.milliseconds;
            if batch.recovered {
                self.send(&Reply::Executor(sampler.info()));
            }
            for image in batch.images {
                let pixels = Uint8ClampedArray::from(image.as_slice());
                send(&self.scope, &Reply::Face { run: faces.run, index }, Some(&pixels));
                index += 1;
            }
            self.hear().await?;
            if self.next.borrow().is_some() {
                return Ok(());
            }
        }
        self.send(&Reply::Done { run: faces.run, seconds: milliseconds / 1000.0 });
        Ok(())
    }

    /// Lets the messages in that came while this thread computed.
    async fn hear(&self) -> Result<(), String> {
        let timeout = Promise::new(&mut |resolve, reject| {
            if let Err(error) = self.scope.set_timeout_with_callback(&resolve) {
                // A rejection nobody can handle better than the caller of this function.
                let _ = reject.call1(&JsValue::NULL, &error);
            }
        });
        JsFuture::from(timeout).await.map(drop).map_err(describe)
    }

    fn send(&self, reply: &Reply) {
        send(&self.scope, reply, None);
    }
}

/// Milliseconds on a clock that only goes forward.
fn now() -> f64 {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    scope.performance().map_or_else(js_sys::Date::now, |performance| performance.now())
}

/// Tells the window. If that fails there is nobody left to tell but the console.
fn send(scope: &DedicatedWorkerGlobalScope, reply: &Reply, pixels: Option<&Uint8ClampedArray>) {
    let sent = pack(reply, pixels).and_then(|message| match pixels {
        Some(pixels) => scope.post_message_with_transfer(&message, &Array::of1(&pixels.buffer())),
        None => scope.post_message(&message),
    });
    if let Err(error) = sent {
        wasm_bindgen::throw_val(error);
    }
}
