//! A coordinator inside the process: for tests and for several caches of one process.
