//! Many inputs on a stated number of threads.
