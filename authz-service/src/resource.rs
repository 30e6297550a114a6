//! Resources: what operators write, one directory of YAML → one [`Registry`]. A set with a problem is refused whole, and all
//! of its problems are told at once. Nothing in here talks to a network or knows the time.

mod api_key;
mod decode;
mod field;
mod issuer;
mod model_cost;
mod names;
mod new_key;
mod object;
mod plan;
mod problem;
mod provider;
mod quantity;
mod role;
mod set;
mod sources;
mod tenant;
mod tenant_policy;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;

pub use api_key::LONGEST as LONGEST_KEY;
pub use new_key::{NewKey, NewKeyError, api_key_document, write_new};
pub use problem::Problem;
pub use sources::{BadSources, Sources};

use self::object::Objects;
use self::problem::Problems;
use self::sources::Origin;
use crate::registry::Registry;

/// A set that holds together.
#[derive(Debug)]
pub struct Loaded {
    /// What requests are decided by.
    pub registry: Registry,
    /// What it was made of, for the store.
    pub sources: Sources,
}

/// Reads every `*.yaml` and `*.yml` of a directory and its sub-directories, in the order of their paths; hidden ones are
/// passed over, symbolic links may lead anywhere inside.
///
/// # Errors
/// Every [`Problem`] of the set, by file, line and column.
pub fn load(dir: &Path) -> Result<Loaded, Vec<Problem>> {
    let problems = Problems::default();
    let origin = Origin::disk(dir, &problems);
    compile(origin, problems)
}

/// Compiles a set that was kept; only the credential files are read again, from disk.
///
/// # Errors
/// Every [`Problem`] of the set, by file, line and column.
pub fn from_sources(sources: &Sources, dir: &Path) -> Result<Loaded, Vec<Problem>> {
    compile(Origin::kept(dir, sources), Problems::default())
}

fn compile(mut origin: Origin<'_>, mut problems: Problems) -> Result<Loaded, Vec<Problem>> {
    let mut objects = Objects { unread: problems.count() > 0, ..Objects::default() };
    for (path, text) in origin.sources().resources() {
        let file = problems.file(path);
        let before = problems.count();
        let documents = tree::documents(file, text, &problems);
        objects.unread |= problems.count() > before;
        for document in documents {
            objects.read(file, &document, &problems);
        }
    }
    let registry = set::compile(&objects, &mut origin, &problems);
    match problems.into_vec() {
        none if none.is_empty() => Ok(Loaded { registry, sources: origin.into_sources() }),
        problems => Err(problems),
    }
}
