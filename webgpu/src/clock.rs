//! A clock that only goes forward, native and in a browser alike.

/// Started at some moment.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    #[cfg(not(target_arch = "wasm32"))]
    start: std::time::Instant,
    #[cfg(target_arch = "wasm32")]
    start: f64,
}

#[cfg(not(target_arch = "wasm32"))]
impl Clock {
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

#[cfg(target_arch = "wasm32")]
impl Clock {
    pub fn start() -> Self {
        Self { start: milliseconds() }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        (milliseconds() - self.start) / 1000.0
    }
}

/// `performance.now()` of window or worker.
#[cfg(target_arch = "wasm32")]
fn milliseconds() -> f64 {
    use wasm_bindgen::JsCast;

    let performance = js_sys::Reflect::get(&js_sys::global(), &"performance".into());
    let performance = performance.ok().and_then(|performance| performance.dyn_into::<web_sys::Performance>().ok());
    performance.map_or_else(js_sys::Date::now, |performance| performance.now())
}
