//! A disk that fails on request: `faults.c`, built by the system's C compiler (Rust links with it) and
//! preloaded into the daemon.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

/// How a disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// What needs more space is refused; what overwrites is not.
    Full,
    /// As a full disk, for one user.
    OverQuota,
    /// Every change is refused.
    ReadOnly,
    /// Data can be neither written nor synced.
    Broken,
    /// Data can be written, but not synced.
    Unsynced,
}

impl Failure {
    /// The numbers by which `faults.c` knows it: the kind, the error.
    fn numbers(self) -> (i32, i32) {
        match self {
            Self::Full => (1, libc::ENOSPC),
            Self::OverQuota => (1, libc::EDQUOT),
            Self::ReadOnly => (2, libc::EROFS),
            Self::Broken => (3, libc::EIO),
            Self::Unsynced => (4, libc::EIO),
        }
    }
}

/// The failures of one store's disk.
#[derive(Debug)]
pub struct Faults {
    store: PathBuf,
    control_path: PathBuf,
    control: File,
}

impl Faults {
    /// No failures yet, for the store at `store`; `control` is a file to be made.
    pub fn new(store: &Path, control: PathBuf) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&control).unwrap();
        file.write_all_at(&[0; 16], 0).unwrap();
        Self { store: store.to_owned(), control_path: control, control: file }
    }

    /// What the daemon must be started with.
    pub fn environment(&self) -> [(&'static str, &Path); 3] {
        [("LD_PRELOAD", library()), ("FAULTS_DIRECTORY", &self.store), ("FAULTS_CONTROL", &self.control_path)]
    }

    /// From now on it fails so; `spared` calls that would fail still succeed.
    pub fn begin(&self, failure: Failure, spared: u32) {
        let (kind, error) = failure.numbers();
        self.set(2, i32::try_from(spared).unwrap());
        self.set(1, error);
        self.set(0, kind);
    }

    /// It works again.
    pub fn end(&self) {
        self.set(0, 0);
    }

    /// Each sync takes so much longer.
    pub fn slow_down(&self, delay: Duration) {
        self.set(3, i32::try_from(delay.as_millis()).unwrap());
    }

    fn set(&self, index: u64, number: i32) {
        self.control.write_all_at(&number.to_ne_bytes(), index * 4).unwrap();
    }
}

/// Builds the library, once a run.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk/faults.c");
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let status = Command::new("cc")
            .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
            .args([&built, &source])
            .arg("-ldl")
            .status()
            .expect("Rust links with cc");
        assert!(status.success(), "faults.c can't be compiled");
        built
    })
}
