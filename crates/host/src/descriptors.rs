//! How many descriptors this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::info;

/// Lets this process use as many descriptors as its hard limit allows, and says how many that are.
/// A soft limit of 1,024 is a relic of `select`, which nothing here uses.
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || (limit.current.is_some() && limit.maximum.is_none()) {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            info!(%error, "the descriptor limit stays as it is");
        }
    }
    allowed()
}

/// How many descriptors this process may have now.
pub fn allowed() -> usize {
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    })
}
