//! The worker: downloads the model and makes faces, so that the page stays responsive.

mod check;
mod helpers;
mod job;
mod load;
mod verify;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{DedicatedWorkerGlobalScope, MessageEvent};

use super::picture::{Frames, png};
use super::protocol::{Place, Reply, Request, bytes, pack, unpack};
use crate::faces::{COLUMNS, FaceMaker};
use crate::fetch::{Download, FileRecord};
use crate::time::{now, pause};
use helpers::{File, Helpers};
use job::{Faces, Job};

/// Listens to the window.
pub fn start(scope: DedicatedWorkerGlobalScope) -> Result<(), JsValue> {
    // The error that stops the program says where.
    std::panic::set_hook(Box::new(|info| wasm_bindgen::throw_str(&info.to_string())));
    let worker = Rc::new(Worker {
        scope: scope.clone(),
        download: None.into(),
        maker: None.into(),
        golden: None.into(),
        file: None.into(),
        helpers: None.into(),
        jobs: Default::default(),
        busy: false.into(),
    });
    let on_message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
        let worker = worker.clone();
        spawn_local(async move {
            if let Err(reason) = worker.receive(event.data()).await {
                worker.send(&Reply::Failed(reason));
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
    /// There from [`Reply::Ready`] on, but while a job has it.
    maker: RefCell<Option<FaceMaker>>,
    /// Where the golden tensors of the model are, if it has any.
    golden: RefCell<Option<(String, FileRecord)>>,
    /// The model's, for helpers.
    file: RefCell<Option<File>>,
    /// There while the CPU makes faces of the model.
    helpers: RefCell<Option<Helpers>>,
    /// What to do next.
    jobs: RefCell<VecDeque<Job>>,
    busy: Cell<bool>,
}

impl Worker {
    async fn receive(&self, message: JsValue) -> Result<(), String> {
        let (request, attachment) = unpack::<Request>(message)?;
        let job = Job::new(request, bytes(&attachment));
        self.jobs.borrow_mut().retain(|other| !other.is_replaced_by(&job));
        match job {
            // Another model first: if it is refused, what was asked for goes on.
            Job::Load { .. } => self.jobs.borrow_mut().push_front(job),
            job => self.jobs.borrow_mut().push_back(job),
        }
        if self.busy.replace(true) {
            return Ok(());
        }
        let done = self.work().await;
        self.busy.set(false);
        done
    }

    /// Does what is asked for, until nothing is.
    async fn work(&self) -> Result<(), String> {
        loop {
            let Some(job) = self.next() else {
                self.verify().await;
                self.tune().await;
                match self.is_idle() {
                    true => return Ok(()),
                    false => continue,
                }
            };
            let maker = self.maker.take();
            let maker = match (job, maker) {
                (Job::Load { source, executor, tune }, maker) => self.load(source, executor, tune, maker).await,
                (job, Some(mut maker)) => {
                    self.use_maker(job, &mut maker).await?;
                    Some(maker)
                }
                // The window was told that there is no model.
                (_, None) => None,
            };
            self.maker.replace(maker);
            // Lets the messages in that came while this thread computed.
            pause(0).await;
        }
    }

    /// Times kernels while nothing is asked for.
    async fn tune(&self) {
        let Some(mut maker) = self.maker.take() else { return };
        if maker.tune(|| self.is_idle()).await {
            self.send(&Reply::Speed(maker.speed()));
        }
        self.maker.replace(Some(maker));
    }

    fn is_idle(&self) -> bool {
        self.jobs.borrow().is_empty()
    }

    fn next(&self) -> Option<Job> {
        self.jobs.borrow_mut().pop_front()
    }

    async fn use_maker(&self, job: Job, maker: &mut FaceMaker) -> Result<(), String> {
        match job {
            Job::Load { .. } => Ok(()),
            Job::Make(faces) => self.make(maker, faces).await,
            Job::Develop { run, recipe, steps, dtype } => {
                maker.set_steps(steps)?;
                maker.set_dtype(dtype);
                let mut pixels = Vec::new();
                let is_whole = maker.develop(*recipe, |image| pixels.extend(image)).await?;
                self.tell_news(maker);
                if !is_whole {
                    self.jobs.borrow_mut().push_front(Job::Develop { run, recipe, steps, dtype });
                    return Ok(());
                }
                self.send_bytes(&Reply::Developed { run }, &pixels);
                Ok(())
            }
            Job::Check { url, expected } => {
                self.check(maker, &url, expected).await;
                Ok(())
            }
            Job::Encode { file, size, milliseconds, texts, pixels } => {
                let frames: Vec<&[u8]> = pixels.chunks_exact(4 * size * size).collect();
                let bytes = png(&Frames { size, frames: &frames, milliseconds }, &texts);
                let bytes = bytes.map_err(|error| format!("The animation cannot be written: {error}."))?;
                self.send_bytes(&Reply::Encoded { file }, &bytes);
                Ok(())
            }
        }
    }

    /// Makes a batch of the faces. The rest waits its turn, unless others were asked for in their place.
    async fn make(&self, maker: &mut FaceMaker, mut faces: Faces) -> Result<(), String> {
        maker.set_steps(faces.order.steps)?;
        maker.set_dtype(faces.order.dtype);
        if maker.has_webgpu() {
            self.helpers.take();
        }
        // The frames of an animation are needed here again, to be saved.
        match faces.order.place {
            Place::Grid | Place::Live if maker.draws() => self.draw_batch(maker, &mut faces).await,
            _ if maker.has_webgpu() => self.make_batch(maker, &mut faces).await?,
            _ => self.make_with_helpers(maker, &mut faces).await?,
        }
        self.tell_news(maker);
        if faces.made < faces.order.recipes.len() {
            pause(0).await;
            let job = Job::Make(faces);
            let mut jobs = self.jobs.borrow_mut();
            if !jobs.iter().any(|newer| job.is_replaced_by(newer)) {
                jobs.push_back(job);
            }
            return Ok(());
        }
        let (place, run) = (faces.order.place, faces.order.run);
        self.send(&Reply::Done { place, run, seconds: faces.milliseconds / 1000.0 });
        self.send(&Reply::Speed(maker.speed()));
        Ok(())
    }

    /// Makes the next faces, one after the other for the window. If that fails, the next attempt is another.
    async fn make_batch(&self, maker: &mut FaceMaker, faces: &mut Faces) -> Result<(), String> {
        let batch = maker.sample(faces.next(maker.batch())).await?;
        if let Some(batch) = batch {
            faces.milliseconds += batch.milliseconds;
            for image in batch.images {
                let (place, run, index) = (faces.order.place, faces.order.run, faces.made);
                self.send_bytes(&Reply::Face { place, run, index }, &image);
                faces.made += 1;
            }
        }
        Ok(())
    }

    /// Makes the next faces on the CPU, in other workers as soon as these are ready.
    async fn make_with_helpers(&self, maker: &mut FaceMaker, faces: &mut Faces) -> Result<(), String> {
        let start = now();
        maker.return_to_webgpu().await;
        if maker.has_webgpu() {
            return Ok(());
        }
        let file = self.file.take();
        let mut helpers = match (self.helpers.take(), &file) {
            (Some(helpers), _) => helpers,
            (None, Some(file)) if faces.order.recipes.len() > 1 => Helpers::start(file, maker.memory()?),
            (None, _) => Helpers::default(),
        };
        if let Some(file) = &file {
            helpers.listen(file, faces).await;
            helpers.give(faces);
        }
        let made = if helpers.are_making(faces) {
            helpers.wait().await;
            Ok(())
        } else {
            self.make_face(maker, faces).await
        };
        if let Some(file) = &file {
            helpers.listen(file, faces).await;
        }
        maker.set_helpers(helpers.ready());
        self.helpers.replace(Some(helpers));
        self.file.replace(file);
        made?;
        while let Some((index, pixels)) = faces.take_made() {
            let (place, run) = (faces.order.place, faces.order.run);
            self.send_bytes(&Reply::Face { place, run, index }, &pixels);
        }
        faces.milliseconds += now() - start;
        Ok(())
    }

    /// Makes a face here.
    async fn make_face(&self, maker: &mut FaceMaker, faces: &mut Faces) -> Result<(), String> {
        let Some(index) = faces.take_next() else { return Ok(()) };
        match maker.sample(&faces.order.recipes[index..=index]).await? {
            Some(batch) => batch.images.into_iter().for_each(|pixels| faces.keep(index, pixels)),
            // WebGPU was back, and is gone again.
            None => faces.give_back(index),
        }
        Ok(())
    }

    /// As [`Self::make_batch`], many on one picture.
    async fn draw_batch(&self, maker: &mut FaceMaker, faces: &mut Faces) {
        let Some((pictures, milliseconds)) = maker.draw(faces.next(maker.batch())).await else { return };
        faces.milliseconds += milliseconds;
        for (picture, count) in pictures {
            let (place, run, first) = (faces.order.place, faces.order.run, faces.made);
            let reply = Reply::Faces { place, run, first, count, columns: COLUMNS };
            send(&self.scope, &reply, Some(&picture));
            faces.made += count;
        }
    }

    /// Tells which executor runs, if that or what there is to say about it has changed.
    fn tell_news(&self, maker: &mut FaceMaker) {
        if maker.take_news() {
            self.send(&Reply::Executor(maker.info()));
        }
    }

    fn send(&self, reply: &Reply) {
        send(&self.scope, reply, None);
    }

    fn send_bytes(&self, reply: &Reply, bytes: &[u8]) {
        send(&self.scope, reply, Some(&Uint8Array::from(bytes).buffer()));
    }
}

/// Tells the window. If that fails there is nobody left to tell but the console.
fn send(scope: &DedicatedWorkerGlobalScope, reply: &Reply, attachment: Option<&JsValue>) {
    let sent =
        pack(reply, attachment).and_then(|(message, transfer)| scope.post_message_with_transfer(&message, &transfer));
    if let Err(error) = sent {
        wasm_bindgen::throw_val(error);
    }
}
