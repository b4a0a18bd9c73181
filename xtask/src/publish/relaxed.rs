//! How a browser is found out to know relaxed SIMD, and the program that it then gets.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::files::{Files, sha256};

/// A module of one function, which is f32x4.relaxed_madd; browsers without relaxed SIMD say that it is not valid.
#[rustfmt::skip]
const TEST: [u8; 37] = [
    0, b'a', b's', b'm', 1, 0, 0, 0,
    // The type: three vectors, and one as the result.
    1, 8, 1, 0x60, 3, 0x7b, 0x7b, 0x7b, 1, 0x7b,
    // A function of this type.
    3, 2, 1, 0,
    // Its code: local.get 0, 1 and 2, the operation, end.
    10, 13, 1, 11, 0, 0x20, 0, 0x20, 1, 0x20, 2, 0xfd, 0x85, 2, 0x0b,
];

/// [`TEST`] in base64.
pub fn test() -> String {
    BASE64_STANDARD.encode(TEST)
}

/// A JavaScript module that says whether this browser knows relaxed SIMD.
pub fn test_module() -> String {
    let test = test();
    format!(
        "/** Whether the faster program runs here, which multiplies and adds at once. */\n\
         export const hasRelaxedSimd = WebAssembly.validate(Uint8Array.from(atob(\"{test}\"), (c) => c.charCodeAt(0)));\n"
    )
}

/// JavaScript and program, and their names in a site.
pub struct Relaxed {
    pub glue: String,
    pub program: String,
}

impl Relaxed {
    /// Adds what wasm-bindgen made to a site, under names that differ whenever the contents do.
    pub fn add(site: &mut Files, made: Files) -> Self {
        let hash = sha256(&made.values().flatten().copied().collect::<Vec<_>>());
        let name = |kind: &str| format!("relaxed-{}{kind}", &hash[..16]);
        let names = Self { glue: name(".js"), program: name("_bg.wasm") };
        for (path, bytes) in made {
            let name = if path.ends_with(".wasm") { &names.program } else { &names.glue };
            site.insert(name.clone(), bytes);
        }
        names
    }

    /// What tells the page about it.
    pub fn metas(&self) -> String {
        let Self { glue, program } = self;
        format!(
            "<meta name=\"relaxed-glue\" content=\"{glue}\">\
             <meta name=\"relaxed-program\" content=\"{program}\" data-test=\"{}\">\n",
            test()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_with_the_contents() {
        let made =
            |bytes: &[u8]| Files::from(["relaxed.js", "relaxed_bg.wasm"].map(|name| (name.to_owned(), bytes.to_vec())));
        let mut site = Files::new();
        let first = Relaxed::add(&mut site, made(b"1"));
        let second = Relaxed::add(&mut site, made(b"2"));
        assert_eq!(site.len(), 4);
        assert_eq!(
            (site[&first.program].as_slice(), site[&second.glue].as_slice()),
            (b"1".as_slice(), b"2".as_slice())
        );
    }
}
