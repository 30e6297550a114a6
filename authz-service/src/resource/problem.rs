//! What is wrong with a set of resources, and where. All of it is collected: nobody repairs files one error at a time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// One thing that is wrong. Displays as `file:line:column: message`, or `file: message` where it is about the file as a
/// whole. Never holds a credential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Path relative to the directory that was loaded.
    pub file: String,
    /// Line from 1; 0: the file as a whole.
    pub line: u32,
    /// Column in characters from 1; 0: the file as a whole.
    pub column: u32,
    /// What is wrong, in one line.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { file, line: 0, message, .. } => write!(f, "{file}: {message}"),
            Self { file, line, column, message } => write!(f, "{file}:{line}:{column}: {message}"),
        }
    }
}

/// A place in one of the files of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Which file, as [`Problems::file`] numbered it.
    pub(super) file: u32,
    /// Line from 1.
    pub(super) line: u32,
    /// Column from 1.
    pub(super) column: u32,
}

/// Collects problems while a set is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    files: Vec<String>,
    found: RefCell<BTreeSet<Problem>>,
}

impl Problems {
    /// Takes in a file; its number makes [`Place`]s.
    pub(super) fn file(&mut self, path: &str) -> u32 {
        let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.files.push(path.to_owned());
        number
    }

    /// The path of a file that was taken in.
    pub(super) fn path(&self, file: u32) -> &str {
        usize::try_from(file).ok().and_then(|file| self.files.get(file)).map_or("?", String::as_str)
    }

    /// Notes a problem at a place.
    pub(super) fn add(&self, at: Place, message: impl Into<String>) {
        let file = self.path(at.file).to_owned();
        self.put(Problem { file, line: at.line, column: at.column, message: message.into() });
    }

    /// Notes a problem of a whole file, which need not have been taken in.
    pub(super) fn add_file(&self, path: &str, message: impl Into<String>) {
        self.put(Problem { file: path.to_owned(), line: 0, column: 0, message: message.into() });
    }

    /// How many were found so far.
    pub(super) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// All of them, by file, line and column.
    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.found.into_inner().into_iter().collect()
    }

    /// One line, whatever the files held.
    fn put(&self, mut problem: Problem) {
        for text in [&mut problem.file, &mut problem.message] {
            if text.contains(char::is_control) {
                *text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            }
        }
        self.found.borrow_mut().insert(problem);
    }
}

/// `, did you mean `x`?` with the nearest known name, or the known names where none is near and they are few.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest_of(word, known.iter().copied()) {
        Some(name) => format!(", did you mean `{name}`?"),
        None if known.is_empty() || known.len() > 16 => String::new(),
        None => {
            let listed: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            format!(", known: {}", listed.join(", "))
        }
    }
}

/// The known name that a word was probably meant to be.
pub(super) fn nearest_of<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let far = |name: &str| (name.chars().count() / 3).max(2).min(name.chars().count().saturating_sub(1));
    let near = known.into_iter().map(|name| (strsim::osa_distance(&word, &name.to_lowercase()), name)).min();
    near.filter(|(distance, name)| *distance <= far(name)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_by_place_and_spelled_for_an_editor() {
        let mut problems = Problems::default();
        let file = problems.file("a/b.yaml");
        problems.add(Place { file, line: 10, column: 3 }, "second");
        problems.add(Place { file, line: 9, column: 3 }, "first");
        problems.add(Place { file, line: 9, column: 3 }, "first");
        problems.add_file("a", "who\nle");
        let lines: Vec<String> = problems.into_vec().iter().map(Problem::to_string).collect();
        assert_eq!(lines, ["a: who\u{fffd}le", "a/b.yaml:9:3: first", "a/b.yaml:10:3: second"]);
    }

    #[test]
    fn the_nearest_name_or_the_names() {
        assert_eq!(nearest("limitz", ["caps", "limits"]), ", did you mean `limits`?");
        assert_eq!(nearest("Active", ["active", "x"]), ", did you mean `active`?");
        assert_eq!(nearest("wholly", ["caps", "limits"]), ", known: `caps`, `limits`");
        assert_eq!(nearest("zz", ["a", "b"]), ", known: `a`, `b`");
        assert_eq!(nearest("x", []), "");
    }
}
