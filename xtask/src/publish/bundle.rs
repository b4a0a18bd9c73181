//! The page as one file that opens without a server: program, style and models are inside of it.

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::Path;

use super::compress::gzip;
use super::files::{self, Files};
use super::{bindgen, megabytes};
use crate::page::Program;
use crate::workspace;

/// The script that index.html names to load the program, in whose place the program is.
const START: &str = "web/src/page/start.js";

/// Writes the page with the models that trunk put into `page`.
pub fn write(page: &Path, out: &Path) -> Result<()> {
    let program = bindgen::run(Program::Baseline, "no-modules", "program")?;
    let read = |path: &str| files::read_file(&workspace::root().join(path));
    let text = |path: &str| files::read_text(&workspace::root().join(path));
    let code = program.get("program.js").context("wasm-bindgen wrote no program.js")?;
    let code = format!("{}\n{}", String::from_utf8_lossy(code), text("web/src/page/bundle.js")?);
    let wasm = program.get("program_bg.wasm").context("wasm-bindgen wrote no program_bg.wasm")?;
    let mut parts = Files::from([("program.wasm".to_owned(), wasm.clone())]);
    // A picture is for the README.
    let is_needed = |path: &str| path.starts_with("models/") && !path.ends_with(".png");
    parts.extend(files::read(page)?.into_iter().filter(|(path, _)| is_needed(path)));
    let html = assemble(&text("index.html")?, &code, &parts, read)?;
    files::write_file(out, html.as_bytes())?;
    println!("wrote {}, {}: open it in a browser", out.display(), megabytes(html.len()));
    Ok(())
}

/// Puts everything that `index.html` names into it.
fn assemble(html: &str, code: &str, parts: &Files, read: impl Fn(&str) -> Result<Vec<u8>>) -> Result<String> {
    let source = |path: &str| anyhow::Ok(String::from_utf8(read(path)?)?);
    let mut policy = Policy::default();
    let mut whole = String::new();
    let mut copied = Vec::new();
    // A page that is one file cannot be installed.
    let html = without(html, "<link rel=\"manifest\"");
    let mut rest = html.as_str();
    while let Some((before, tag, after)) = next_asset(rest) {
        whole += before;
        rest = after;
        let path = attribute(tag, "src").or(attribute(tag, "href")).with_context(|| format!("{tag} names no file"))?;
        match attribute(tag, "rel") {
            None if path == START => {
                whole += &policy.script(code)?;
                whole += &embedded(parts)?;
            }
            None => whole += &policy.script(&source(path)?)?,
            Some("css") => whole += &policy.style(&source(path)?)?,
            Some("copy-file") => copied.push(path),
            Some("rust" | "copy-dir") => {}
            Some(kind) => bail!("index.html has an asset of the kind `{kind}`, which the single file cannot hold yet"),
        }
    }
    whole += rest;
    for path in copied {
        whole = with_picture(&whole, path, &read)?;
    }
    policy.put_into(&whole)
}

/// The page with a picture that trunk would put beside it, where it names one.
fn with_picture(html: &str, path: &str, read: impl Fn(&str) -> Result<Vec<u8>>) -> Result<String> {
    let (_, name) = path.rsplit_once('/').unwrap_or(("", path));
    let kind = match name.rsplit_once('.') {
        Some((_, "svg")) => "svg+xml",
        Some((_, "jpg")) => "jpeg",
        Some((_, "png")) => "png",
        _ => return Ok(html.to_owned()),
    };
    let data = format!("=\"data:image/{kind};base64,{}\"", BASE64_STANDARD.encode(read(path)?));
    Ok(html.replace(&format!("=\"{name}\""), &data))
}

/// The page without the lines with these words.
fn without(html: &str, words: &str) -> String {
    html.lines().filter(|line| !line.contains(words)).map(|line| format!("{line}\n")).collect()
}

/// What is before the next element that trunk would replace, the element, and what is after it.
fn next_asset(html: &str) -> Option<(&str, &str, &str)> {
    let link = html.find("<link data-trunk").map(|start| (start, ">"));
    let script = html.find("<script data-trunk").map(|start| (start, "</script>"));
    let (start, end) = link.into_iter().chain(script).min()?;
    let end = start + html[start..].find(end)? + end.len();
    Some((&html[..start], &html[start..end], &html[end..]))
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = tag.split_once(&format!(" {name}=\""))?;
    value.split('"').next()
}

/// Files as text, compressed, in elements that a browser does not run.
fn embedded(parts: &Files) -> Result<String> {
    let mut text = String::new();
    for (path, bytes) in parts {
        let base64 = BASE64_STANDARD.encode(gzip(bytes)?);
        write!(text, "\n<script type=\"application/gzip\" data-path=\"{path}\">{base64}</script>")?;
    }
    Ok(text)
}

/// What the single file may run: the scripts and styles in it and nothing else. It may fetch nothing at all.
#[derive(Default)]
struct Policy {
    scripts: String,
    styles: String,
}

impl Policy {
    fn script(&mut self, code: &str) -> Result<String> {
        Self::allow(&mut self.scripts, code);
        inline("script", code)
    }

    fn style(&mut self, css: &str) -> Result<String> {
        Self::allow(&mut self.styles, css);
        inline("style", css)
    }

    fn allow(list: &mut String, text: &str) {
        *list += &format!(" 'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    }

    /// Replaces the policy of the page.
    fn put_into(&self, html: &str) -> Result<String> {
        let before = "<meta http-equiv=\"Content-Security-Policy\" content=\"";
        let start = html.find(before).context("index.html has no Content-Security-Policy")? + before.len();
        let end = start + html[start..].find('"').context("the Content-Security-Policy of index.html has no end")?;
        let Self { scripts, styles } = self;
        let policy = format!(
            "default-src 'none'; script-src 'wasm-unsafe-eval'{scripts}; worker-src blob:; style-src{styles}; \
             img-src data: blob:; media-src blob:; base-uri 'none'; form-action 'none'"
        );
        Ok(format!("{}{policy}{}", &html[..start], &html[end..]))
    }
}

fn inline(element: &str, text: &str) -> Result<String> {
    let end = format!("</{element}");
    ensure!(!text.contains(&end), "a {element} that contains `{end}` cannot be a part of the single file");
    Ok(format!("<{element}>{text}{end}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: &str = "<link rel=\"manifest\" href=\"manifest.json\">
        <link data-trunk rel=\"copy-file\" href=\"pictures/b.png\"><img src=\"b.png\">
        <head><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'self'\">\
        <link data-trunk rel=\"css\" href=\"a.css\"><link data-trunk rel=\"copy-dir\" href=\"models\"></head>\
        <script data-trunk src=\"web/src/page/start.js\" defer></script>";

    fn assembled(code: &str) -> Result<String> {
        let parts = Files::from([("models/a".to_owned(), b"abc".to_vec())]);
        assemble(HTML, code, &parts, |path| Ok(format!("/* {path} */").into_bytes()))
    }

    #[test]
    fn everything_is_in_the_file_and_nothing_else_is_allowed() {
        let html = assembled("run()").unwrap();
        assert!(html.contains("<style>/* a.css */</style></head><script>run()</script>"), "{html}");
        assert!(html.contains("data-path=\"models/a\">H4sI"), "{html}");
        // printf '/* pictures/b.png */' | base64
        assert!(html.contains("<img src=\"data:image/png;base64,LyogcGljdHVyZXMvYi5wbmcgKi8=\">"), "{html}");
        assert!(!html.contains("manifest") && !html.contains("data-trunk") && !html.contains("'self'"), "{html}");
        // printf 'run()' | openssl dgst -sha256 -binary | base64
        assert!(html.contains("'sha256-AvyuiL0SD1mVY3NNxR+V2uo+lhk6RMFrytWmRt6CrJQ='"), "{html}");
    }

    #[test]
    fn code_that_would_end_its_element_is_an_error() {
        let error = assembled("const end = '</script>'").unwrap_err().to_string();
        assert!(error.contains("cannot be a part of the single file"), "{error}");
    }
}
