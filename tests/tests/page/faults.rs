//! What browsers, drivers, servers and extensions do wrong, and the page goes on.

use std::collections::HashMap;
use std::fs;

use crate::browser::Browser;
use crate::page::{Page, tiny};
use crate::server::{Server, workspace};
use crate::shipped_model;

/// The page, whose worker runs this JavaScript first.
fn with_fault(fault: &str, query: &str) -> Page {
    Page::with_fault(fault, "tiny", &tiny(1), &format!("{query}&model=tiny"))
}

fn shows(page: &Page, selector: &str, words: &str) {
    page.browser.wait(words, || page.browser.text(selector).contains(words));
}

/// A driver that computes the exponential function wrong makes faces, but not those that it should.
#[test]
fn wrong_faces_are_noticed_and_made_again() {
    let fault = "
        const create = GPUDevice.prototype.createShaderModule;
        GPUDevice.prototype.createShaderModule = function (descriptor) {
          const code = descriptor.code.replaceAll('exp(-', 'exp(-1.3 * ');
          return create.call(this, { ...descriptor, code });
        };";
    let page = with_fault(fault, "?seed=0&count=4&executor=webgpu");
    shows(&page, "#note", "This GPU makes wrong faces, so the CPU makes them");
    shows(&page, "#executor", "WebAssembly on the CPU");
    page.finish();
    page.assert_faces(0..4);
    // The report tells by how much.
    page.open_panels();
    assert!(page.browser.text("#check-status").contains("WebGPU failed"), "{}", page.browser.text("#check-status"));
    assert!(page.browser.text("#reports").contains('✗'));
}

/// The same device is not compared again at the next visit.
#[test]
fn right_faces_are_remembered() {
    let server = Server::start([("models/tiny.safetensors".to_owned(), tiny(1))].into());
    let address = format!("{}?seed=0&count=1&model=tiny&executor=webgpu", server.address);
    let page = Page::at(Browser::start(), &address, "tiny", &tiny(1));
    page.finish();
    let verified = || {
        page.browser.run(
            "return (async () => {
               const answer = (request) => new Promise((resolve, reject) => {
                 request.onsuccess = () => resolve(request.result);
                 request.onerror = () => reject(request.error);
               });
               const name = `lddgan ${new URL('./', location.href).href}`;
               if (!(await indexedDB.databases()).some((database) => database.name === name)) return '';
               const database = await answer(indexedDB.open(name));
               const store = database.transaction('times of kernels').objectStore('times of kernels');
               const [kept] = await answer(store.getAll());
               database.close();
               return kept ? JSON.parse(kept).verified.join() : '';
             })()",
        )
    };
    let sha256 = lddgan::hash::sha256(&tiny(1));
    page.browser.wait("a verified model", || verified().as_str().is_some_and(|all| all.starts_with(&sha256)));
    assert!(page.browser.text("#executor").starts_with("WebGPU"));
    assert_eq!(page.browser.errors(), [""; 0]);
}

#[test]
fn a_browser_that_never_opens_its_gpu_is_not_waited_for() {
    let fault = "navigator.gpu.requestAdapter = () => new Promise(() => {});";
    let page = with_fault(fault, "?seed=0&count=1&executor=webgpu");
    page.finish();
    shows(&page, "#note", "did not open its GPU within 10 seconds");
    page.assert_faces(0..1);
}

#[test]
fn a_browser_that_never_gives_a_device_is_not_waited_for() {
    let fault = "GPUAdapter.prototype.requestDevice = () => new Promise(() => {});";
    let page = with_fault(fault, "?seed=0&count=1&executor=webgpu");
    page.finish();
    shows(&page, "#note", "did not open its GPU within 10 seconds");
    page.assert_faces(0..1);
}

#[test]
fn a_gpu_that_is_not_there_at_once_is_asked_for_again() {
    let fault = "
        const request = navigator.gpu.requestAdapter.bind(navigator.gpu);
        let first = true;
        navigator.gpu.requestAdapter = async (options) => {
          if (!first) return request(options);
          first = false;
          return null;
        };";
    let page = with_fault(fault, "?seed=0&count=1&executor=webgpu");
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    page.assert_faces(0..1);
}

#[test]
fn storage_that_never_answers_is_not_waited_for() {
    let fault = "
        IDBFactory.prototype.open = () => new EventTarget();
        CacheStorage.prototype.open = () => new Promise(() => {});";
    let page = with_fault(fault, "?seed=0&count=1&executor=webgpu&tune=1");
    page.finish();
    page.assert_faces(0..1);
}

/// A lost GPU that is not there for a while is taken up again, without a reload.
#[test]
fn a_gpu_that_comes_back_late_is_used_again() {
    let fault = "
        const request = navigator.gpu.requestAdapter.bind(navigator.gpu);
        let opened = 0;
        let end;
        navigator.gpu.requestAdapter = async (options) => {
          // The first two are those of the start, ours and wgpu's. After the loss there is none for a while.
          opened += 1;
          if (opened > 2) end ??= performance.now() + 4000;
          return performance.now() < end ? null : request(options);
        };";
    let page = with_fault(fault, "?seed=0&count=1&executor=webgpu");
    page.finish();
    page.browser.crash_gpu();
    page.open_panels();
    page.browser.click("input[name=count][value='4']");
    shows(&page, "#executor", "WebAssembly on the CPU");
    page.finish();
    page.browser.wait("WebGPU", || {
        page.browser.click("#new");
        page.finish();
        page.browser.text("#executor").starts_with("WebGPU")
    });
    shows(&page, "#note", "found it again");
}

/// Errors of extensions, of the browser and of pictures are none of the program's.
#[test]
fn errors_of_others_stop_nothing() {
    let page = Page::open("?seed=0&count=1&model=tiny&executor=cpu");
    page.finish();
    page.browser.run(
        "window.dispatchEvent(new ErrorEvent('error', { message: 'ResizeObserver loop completed' }));
         const foreign = new Error('of an extension');
         foreign.stack = 'Error: of an extension\\n at chrome-extension://abc/content.js:1:1';
         window.dispatchEvent(new ErrorEvent('error', { message: 'Uncaught', error: foreign }));
         Promise.reject(foreign);
         Promise.reject('words');
         const picture = document.createElement('img');
         picture.src = 'nowhere.png';
         document.body.append(picture);",
    );
    page.browser.click("#new");
    page.finish();
    assert_eq!(page.browser.run("return document.querySelector('main').dataset.state"), "done");

    // One of the program's own does, until faces are made again.
    page.browser.run(
        "const own = new Error('of the program');
         own.stack = `Error: of the program\\n at ${new URL('program.js', location.href)}:1:1`;
         window.dispatchEvent(new ErrorEvent('error', { message: 'Uncaught', error: own }));",
    );
    assert!(page.browser.text("#error").contains("The program stopped: of the program"));
    page.browser.click("#new");
    page.browser.wait("no error", || page.browser.text("#error").is_empty());
}

#[test]
fn a_download_that_stands_still_goes_on_by_itself() {
    const MODEL: &str = "models/faces64.safetensors";
    let server = Server::start(HashMap::new());
    server.stall(MODEL, 2_000_000);
    let address = format!("{}?seed=0&count=1&model=faces64&executor=cpu", server.address);
    let page = Page::at(Browser::start(), &address, "faces64", &shipped_model("faces64"));
    shows(&page, "#status", "The download has stalled");
    page.finish();
    assert_eq!(server.requests(MODEL).len(), 2);
    assert!(page.browser.text("#notes").contains("went on after"), "{}", page.browser.text("#notes"));
    page.assert_faces(0..1);
}

/// The name of the page's program.
fn program() -> String {
    let files = fs::read_dir(workspace().join("dist")).expect("the page was built");
    let mut names = files.map(|file| file.expect("the folder can be read").file_name().to_string_lossy().into_owned());
    names.find(|name| name.ends_with(".wasm")).expect("the page has a program")
}

/// A page of whose program this file stands still after so many bytes.
fn assert_stall_is_noticed(file: &str, after: usize) {
    let server = Server::start([("models/tiny.safetensors".to_owned(), tiny(1))].into());
    server.stall(file, after);
    let address = format!("{}?seed=0&count=1&model=tiny&executor=cpu", server.address);
    let page = Page::at(Browser::start(), &address, "tiny", &tiny(1));
    shows(&page, "#error", "The download of the program has stalled");
    page.browser.click("#retry");
    page.finish();
    page.assert_faces(0..1);
    assert!(page.browser.run("return document.querySelector('#retry').hidden") == true);
}

#[test]
fn a_program_that_stands_still_says_so_and_can_be_tried_again() {
    assert_stall_is_noticed(&program(), 1_000_000);
}

#[test]
fn a_script_that_stands_still_says_so_and_can_be_tried_again() {
    assert_stall_is_noticed(&program().replace("_bg.wasm", ".js"), 1000);
}

/// A device with three processors, one of which the page needs, and `memory` in gigabytes.
fn on_a_device(memory: &str, fault: &str) -> Page {
    let device = format!(
        "Object.defineProperty(WorkerNavigator.prototype, 'hardwareConcurrency', {{ get: () => 3 }});
         Object.defineProperty(WorkerNavigator.prototype, 'deviceMemory', {{ get: () => {memory} }});
         {fault}"
    );
    let page = with_fault(&device, "?seed=0&count=16&executor=cpu");
    page.finish();
    // By the first grid all of them may be made before the workers are ready.
    page.browser.click("#new");
    page.finish();
    page
}

#[test]
fn several_workers_make_the_faces_of_the_fallback() {
    let page = on_a_device("8", "");
    shows(&page, "#executor", "in 2 workers");
    let seed = page.address_seed();
    page.assert_grid(seed..seed + 16);
    assert_eq!(page.browser.errors(), [""; 0]);
}

#[test]
fn a_device_without_memory_for_several_workers_has_none() {
    let page = on_a_device("0.001", "");
    assert_eq!(page.browser.text("#executor"), "WebAssembly on the CPU");
    let seed = page.address_seed();
    page.assert_grid(seed..seed + 16);
}

/// The first worker starts the others: those stop as soon as they are to make a face.
#[test]
fn faces_of_workers_that_stop_are_made_by_others() {
    let fault = "
        const start = Worker;
        let count = 0;
        globalThis.Worker = class extends start {
          postMessage(message, ...rest) {
            if (String(message[0]).includes('Make') && ++count === 2) this.dispatchEvent(new MessageEvent('message', {
              data: [JSON.stringify({ Stopped: 'unreachable' })],
            }));
            else super.postMessage(message, ...rest);
          }
        };";
    let page = on_a_device("8", fault);
    shows(&page, "#executor", "in another worker");
    let seed = page.address_seed();
    page.assert_grid(seed..seed + 16);
}
