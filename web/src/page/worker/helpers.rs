//! Other workers, which make faces where there is no WebGPU: WebAssembly computes on one thread, but each worker is one.
//! Each has a program and a model of its own, so that no memory is shared and the page needs no special headers. What they
//! are told and what they answer is what window and worker say to each other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use js_sys::{Array, Function, Promise, Reflect, Uint8Array};
use lddgan::Recipe;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, MessageEvent, Worker};

use super::job::Faces;
use crate::choices::ExecutorChoice;
use crate::page::protocol::{Order, Reply, Request, Source, bytes, pack, unpack};
use crate::page::start::start_worker;
use crate::time::scope;

/// More would fight for the memory's bandwidth.
const MAX_HELPERS: usize = 8;
/// Bytes that a device is taken to have whose browser does not tell.
const MEMORY: f64 = 4e9;
/// The part of the device's memory that the helpers may take.
const SHARE: f64 = 0.25;

/// A model's file, which the browser may keep outside of memory.
pub struct File {
    name: String,
    blob: Blob,
}

/// Workers that make faces of one model.
#[derive(Default)]
pub struct Helpers {
    helpers: Vec<Helper>,
    inbox: Rc<Inbox>,
}

struct Helper {
    worker: Worker,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Starts,
    Waits,
    /// Makes the face of this index in this run.
    Makes(u32, usize),
    /// Could not go on.
    Gone,
}

/// What helpers have answered: which of them, and what.
#[derive(Default)]
struct Inbox {
    answers: RefCell<VecDeque<(usize, JsValue)>>,
    /// Wakes the one who waits for an answer.
    wake: RefCell<Option<Function>>,
}

impl File {
    pub fn new(name: &str, bytes: &[u8]) -> Option<Self> {
        // A copy: a view of this program's memory would change under the browser's hands.
        let parts = Array::of1(&Uint8Array::from(bytes));
        Some(Self { name: name.to_owned(), blob: Blob::new_with_u8_array_sequence(&parts).ok()? })
    }
}

impl Helpers {
    /// As many as this device has processors and memory for, where a face takes so many bytes; none for a single one,
    /// which would only do what this worker can do itself.
    pub fn start(file: &File, face: u64) -> Self {
        // The file, and its weights in f32 from which others are made.
        let needed = face + 3 * file.blob.size() as u64;
        let count =
            count(number("hardwareConcurrency"), number("deviceMemory").map(|gigabytes| gigabytes * 1e9), needed);
        let inbox = Rc::new(Inbox::default());
        let start = |index| {
            let worker = start_worker(wasm_bindgen::module()).ok()?;
            let inbox = inbox.clone();
            let on_message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
                inbox.answers.borrow_mut().push_back((index, event.data()));
                if let Some(wake) = inbox.wake.take() {
                    drop(wake.call0(&JsValue::NULL));
                }
            });
            worker.set_onmessage(Some(on_message.into_js_value().unchecked_ref()));
            Some(Helper { worker, state: State::Starts })
        };
        Self { helpers: (0..count).map_while(start).collect(), inbox }
    }

    /// How many can make faces.
    pub fn ready(&self) -> usize {
        self.helpers.iter().filter(|helper| matches!(helper.state, State::Waits | State::Makes(..))).count()
    }

    /// Gives those that wait something to do.
    pub fn give(&mut self, faces: &mut Faces) {
        for helper in self.helpers.iter_mut().filter(|helper| helper.state == State::Waits) {
            let Some(index) = faces.take_next() else { return };
            let recipes: Vec<Recipe> = vec![faces.order.recipes[index]];
            let request = Request::Make(Order { recipes, ..faces.order.clone() });
            let sent = pack(&request, None).and_then(|(message, _)| helper.worker.post_message(&message));
            helper.state = State::Makes(faces.order.run, index);
            if sent.is_err() {
                helper.lose(faces);
            }
        }
    }

    /// Whether one of these faces is on its way.
    pub fn are_making(&self, faces: &Faces) -> bool {
        self.helpers.iter().any(|helper| matches!(helper.state, State::Makes(run, _) if run == faces.order.run))
    }

    /// Waits until one of them has answered.
    pub async fn wait(&self) {
        if self.inbox.answers.borrow().is_empty() {
            let answer = Promise::new(&mut |resolve, _| drop(self.inbox.wake.replace(Some(resolve))));
            drop(JsFuture::from(answer).await);
        }
    }

    /// Takes what they have answered.
    pub async fn listen(&mut self, file: &File, faces: &mut Faces) {
        loop {
            let answer = self.inbox.answers.borrow_mut().pop_front();
            let Some((index, message)) = answer else { return };
            let Ok((reply, attachment)) = unpack::<Reply>(message) else { continue };
            let helper = &mut self.helpers[index];
            match reply {
                Reply::Started if helper.load(file).await.is_err() => {
                    helper.lose(faces);
                }
                Reply::Ready(_) => helper.state = State::Waits,
                Reply::Face { .. } => {
                    if let State::Makes(run, index) = std::mem::replace(&mut helper.state, State::Waits)
                        && run == faces.order.run
                    {
                        faces.keep(index, bytes(&attachment));
                    }
                }
                Reply::NotLoaded(_) | Reply::Failed(_) | Reply::Stopped(_) => helper.lose(faces),
                _ => {}
            }
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.helpers.iter().for_each(|helper| helper.worker.terminate());
    }
}

impl Helper {
    async fn load(&self, file: &File) -> Result<(), JsValue> {
        let bytes = JsFuture::from(file.blob.array_buffer()).await?;
        let source = Source::File(file.name.clone());
        let request = Request::Load { source, executor: ExecutorChoice::Cpu, tune: None };
        let (message, transfer) = pack(&request, Some(&bytes))?;
        self.worker.post_message_with_transfer(&message, &transfer)
    }

    /// Goes on without it; its face is for another to make.
    fn lose(&mut self, faces: &mut Faces) {
        self.worker.terminate();
        if let State::Makes(run, index) = std::mem::replace(&mut self.state, State::Gone)
            && run == faces.order.run
        {
            faces.give_back(index);
        }
    }
}

/// A number that the browser tells about the device, if it does.
fn number(name: &str) -> Option<f64> {
    Reflect::get(&scope().navigator(), &name.into()).ok()?.as_f64()
}

/// The number of helpers for so many processors, one of which the page needs, and bytes of memory.
fn count(processors: Option<f64>, memory: Option<f64>, needed: u64) -> usize {
    let processors = processors.unwrap_or(1.0) as usize;
    let fit = (memory.unwrap_or(MEMORY) * SHARE / needed.max(1) as f64) as usize;
    match processors.saturating_sub(1).min(fit).min(MAX_HELPERS) {
        1 => 0,
        count => count,
    }
}
