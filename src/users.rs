//! Users at run time.
