//! What the documents say about the files of this repository.

use std::path::Path;

/// The cells of a row of a table in Markdown that hold code: a file, and what is to be found there.
fn file_and_words(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix('|')?.split(" | ").map(str::trim);
    let quoted = |cell: &str| cell.len() > 2 && cell.starts_with('`') && cell.ends_with('`');
    let (file, words) = (cells.next()?, cells.next()?);
    (quoted(file) && quoted(words)).then(|| (file.trim_matches('`'), words.trim_matches('`')))
}

#[test]
fn the_files_that_the_architecture_names_hold_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let rows: Vec<_> = text.lines().filter_map(file_and_words).collect();
    assert!(rows.len() > 40, "{} rows", rows.len());
    for (file, words) in rows {
        let content = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(content.contains(words), "{file} does not hold `{words}`");
    }
}
