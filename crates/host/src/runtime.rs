//! The one way the roof gets from plain code into the loops.

use std::io;

/// Runs `future` to its end on a fresh runtime with one thread for each processor.
///
/// # Errors
/// What the system says when it gives no threads or no epoll.
pub fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let output = runtime.block_on(future);
    // Whatever a service left running has had its time; blocking work is not waited for.
    runtime.shutdown_background();
    Ok(output)
}
