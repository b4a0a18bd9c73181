//! What is told by the name of a file alone.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

/// Ends of the names of image files.
const IMAGES: [&str; 10] = ["jpg", "jpeg", "jfif", "jpe", "png", "webp", "bmp", "gif", "tif", "tiff"];

/// Files and folders that systems and tools put beside images, often with copies of them; so are all hidden ones.
const CLUTTER: [&str; 7] =
    ["@eadir", "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"];

/// Endings that are named in a summary.
const NAMED: usize = 8;

/// So many of these, in words.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The path below a folder, with slashes on every system, so that what is prepared on one is the same on all.
pub(super) fn portable(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Whether the name is that of an image file.
pub(super) fn is_image(path: &Path) -> bool {
    IMAGES.contains(&ending(path).as_str())
}

/// Whether a part of the path is hidden, or made by a system or a tool for itself.
pub(super) fn is_clutter(path: &Path) -> bool {
    path.components().any(|part| match part {
        Component::Normal(name) => {
            let name = name.to_string_lossy();
            name.starts_with('.') || CLUTTER.contains(&name.to_ascii_lowercase().as_str())
        }
        _ => false,
    })
}

/// What comes after the last dot of the name, in small letters.
fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// How many files there are with each ending.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Endings(BTreeMap<String, usize>);

impl Endings {
    pub(super) fn count(&mut self, path: &Path) {
        *self.0.entry(ending(path)).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (ending, count) in &other.0 {
            *self.0.entry(ending.clone()).or_default() += count;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The most frequent ones first.
impl std::fmt::Display for Endings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return f.write_str("no other files");
        }
        let mut endings: Vec<_> = self.0.iter().collect();
        endings.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let named = endings.iter().take(NAMED).map(|(ending, count)| match ending.as_str() {
            "" => format!("{count} without an ending"),
            _ => format!("{count} .{ending}"),
        });
        let others: usize = endings.iter().skip(NAMED).map(|(_, count)| **count).sum();
        let others = (others > 0).then(|| format!("{others} others"));
        f.write_str(&named.chain(others).collect::<Vec<_>>().join(", "))
    }
}
