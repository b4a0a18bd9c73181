//! The worker: downloads the model and makes faces, so that the page stays responsive.

mod adapter;
pub mod clock;
pub mod download;
mod kept;
pub mod sampler;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Array, Uint8ClampedArray};
use lddgan::ModelFile;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{DedicatedWorkerGlobalScope, MessageEvent};

use super::protocol::{FileRecord, Reply, Request, pack, unpack};
use super::settings::ExecutorChoice;
use clock::pause;
use download::{Download, Progress};
use kept::Kept;
use sampler::Sampler;

/// Listens to the window.
pub fn start(scope: DedicatedWorkerGlobalScope) -> Result<(), JsValue> {
    let panicked = |info: &std::panic::PanicHookInfo| {
        let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
        send(&scope, &Reply::Failed(format!("The program has an error: {info}.")), None);
    };
    std::panic::set_hook(Box::new(panicked));
    let worker = Rc::new(Worker {
        scope: scope.clone(),
        download: None.into(),
        sampler: None.into(),
        next: None.into(),
        busy: false.into(),
    });
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
    /// What came of a model whose download failed.
    download: RefCell<Option<Download>>,
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
            Request::Load { url, expected, executor } => self.load(&url, expected, executor).await,
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

    async fn load(&self, url: &str, expected: Option<FileRecord>, choice: ExecutorChoice) -> Result<(), String> {
        let kept = match &expected {
            Some(expected) => Kept::open(url, expected).await,
            None => None,
        };
        let found = match &kept {
            Some(kept) => kept.read().await,
            None => None,
        };
        let is_found = found.is_some();
        let bytes = match found {
            Some(bytes) => bytes,
            None => match self.download(url, expected.clone()).await {
                Ok(bytes) => bytes,
                Err(reason) => return Ok(self.send(&Reply::DownloadFailed(reason))),
            },
        };
        let keeping = kept.filter(|_| !is_found).map(|kept| kept.write(&bytes));
        self.build(url, bytes, choice).await?;
        if expected.is_some() {
            let is_kept = match keeping {
                Some(Ok(promise)) => JsFuture::from(promise).await.is_ok(),
                _ => is_found,
            };
            self.send(&Reply::Kept(is_kept));
        }
        Ok(())
    }

    /// Downloads a model, or the rest of one whose download failed.
    async fn download(&self, url: &str, expected: Option<FileRecord>) -> Result<Vec<u8>, String> {
        let begun = self.download.take().filter(|download| download.url() == url);
        let mut download = begun.unwrap_or_else(|| Download::new(url.to_owned(), expected));
        let tell = |progress| {
            self.send(&match progress {
                Progress::Received { bytes, total } => Reply::Downloading { bytes, total },
                Progress::Resumed { bytes } => Reply::Interrupted { resumed: Some(bytes) },
                Progress::Restarted => Reply::Interrupted { resumed: None },
            });
        };
        let finished = download.finish(tell).await;
        self.download.replace(finished.is_err().then_some(download));
        finished
    }

    /// Makes the sampler from a whole file.
    async fn build(&self, url: &str, bytes: Vec<u8>, choice: ExecutorChoice) -> Result<(), String> {
        let file = url.rsplit('/').next().unwrap_or(url);
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
            // Lets the messages in that came while this thread computed.
            pause(0).await;
            if self.next.borrow().is_some() {
                return Ok(());
            }
        }
        self.send(&Reply::Done { run: faces.run, seconds: milliseconds / 1000.0 });
        Ok(())
    }

    fn send(&self, reply: &Reply) {
        send(&self.scope, reply, None);
    }
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
